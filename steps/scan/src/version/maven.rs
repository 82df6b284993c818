//! The order of Maven versions, written from the "Version Order Specification" of Maven's POM
//! reference. Zeros before a qualifier or a hyphen are dropped, as Maven's own reader drops them,
//! which makes the order total; `maven-version` 0.1 orders by Maven's older, list-based code.

use super::order::{Number, Scheme};

/// Maven versions.
pub(crate) struct Maven;

/// Qualifiers that come before the release, in order.
const BEFORE: [&str; 5] = ["alpha", "beta", "milestone", "rc", "snapshot"];

/// One token, lowest kind first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Token {
    /// `alpha` to `snapshot`.
    Before(usize),
    /// Nothing follows.
    End,
    /// `sp`, a service pack.
    ServicePack,
    /// Any other word, by the alphabet.
    Word(String),
    /// A number behind a hyphen, or beside a letter.
    Hyphen(Number),
    /// A number behind a dot, or the first.
    Dot(Number),
}

impl Scheme for Maven {
    type Key = Vec<Token>;

    fn parse(text: &str) -> Option<Vec<Token>> {
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let text = text.to_lowercase();
        let mut tokens = Vec::new();
        let mut rest = text.as_str();
        let mut dotted = true;
        loop {
            let end = rest.find(['.', '-', '_']).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            push_part(part, dotted, &mut tokens);
            let Some(separator) = after.chars().next() else { break };
            dotted = separator == '.';
            rest = &after[1..];
        }
        drop_zeros(&mut tokens);
        tokens.push(Token::End);
        Some(tokens)
    }
}

/// Adds one part between separators, split where digits and letters meet.
fn push_part(part: &str, dotted: bool, tokens: &mut Vec<Token>) {
    let mut rest = if part.is_empty() { "0" } else { part };
    let mut dotted = dotted;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        match Number::new(run) {
            Some(number) => {
                if !dotted {
                    drop_zeros(tokens);
                }
                tokens.push(if dotted { Token::Dot(number) } else { Token::Hyphen(number) });
            }
            None => {
                drop_zeros(tokens);
                // `a1`, `b1` and `m1` are short for alpha, beta and milestone.
                let word = match (run, after.is_empty()) {
                    ("a", false) => "alpha",
                    ("b", false) => "beta",
                    ("m", false) => "milestone",
                    ("cr", _) => "rc",
                    (other, _) => other,
                };
                match word {
                    "final" | "ga" | "release" => {}
                    "sp" => tokens.push(Token::ServicePack),
                    _ => tokens.push(match BEFORE.iter().position(|known| *known == word) {
                        Some(place) => Token::Before(place),
                        None => Token::Word(word.to_owned()),
                    }),
                }
            }
        }
        rest = after;
        dotted = false;
    }
}

fn drop_zeros(tokens: &mut Vec<Token>) {
    while matches!(tokens.last(), Some(Token::Dot(n) | Token::Hyphen(n)) if n.is_zero()) {
        tokens.pop();
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::version::VersionOrder as _;

    #[test]
    fn versions_are_ordered_as_maven_orders_them() {
        let ascending = [
            "1-alpha-1",
            "1-alpha2",
            "1-beta1",
            "1.0.0.M1",
            "1-rc1",
            "1.0-CR2",
            "1-SNAPSHOT",
            "1",
            "1-sp",
            "1-jre",
            "1-1",
            "1.0.1",
            "1.1",
            "1.10",
            "2.9.10",
            "2.9.10.8",
            "9.0.0.M1",
            "9.0.98",
            "11.0.0-M10",
            "11.0.0",
        ];
        for (place, older) in ascending.iter().enumerate() {
            for newer in &ascending[place + 1..] {
                assert_eq!(Maven.compare(older, newer), Ordering::Less, "{older} < {newer}");
            }
        }
        for (left, right) in
            [("1.0", "1"), ("1.0.0.Final", "1"), ("1.0.RC1", "1-rc-1"), ("1-a1", "1-alpha-1")]
        {
            assert_eq!(Maven.compare(left, right), Ordering::Equal, "{left} = {right}");
        }
    }
}
