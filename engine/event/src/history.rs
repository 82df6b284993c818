//! Whether a push to a tag is told again, or happened again.

use fairlead_step::Digest;
use jiff::Timestamp;

use crate::ImagePushed;

/// A push to a tag, as far as it tells others from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPush {
    /// What the tag was set to.
    pub digest: Digest,
    /// When, as the sender says.
    pub at: Option<Timestamp>,
}

/// The push among `newest_first`, which all were to the tag of `push`, of which `push` is but
/// another report; none when it is something that happened anew.
///
/// * What the tag holds already did not happen again, whoever says so and at whatever time.
/// * A digest that the tag held before and holds no longer happened again only when the sender
///   gives it a later time than to anything known of the tag. A report that comes late, or is
///   sent again after hours, carries its old time.
/// * A digest that the tag never held is new.
#[must_use]
pub fn repeated(push: &ImagePushed, newest_first: &[KnownPush]) -> Option<usize> {
    let same = newest_first.iter().position(|known| push.digest.as_ref() == Some(&known.digest))?;
    if same == 0 {
        return Some(0);
    }
    let latest = newest_first.iter().filter_map(|known| known.at).max();
    let later = push.at.is_some_and(|at| latest.is_none_or(|latest| at > latest));
    (!later).then_some(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(content: &str, at: Option<i64>) -> ImagePushed {
        ImagePushed {
            repository: "r.example.com/shop".parse().unwrap(),
            tag: Some("stable".into()),
            digest: Some(Digest::sha256(content.as_bytes())),
            media_type: None,
            actor: None,
            at: at.map(|second| jiff::Timestamp::from_second(second).unwrap()),
        }
    }

    #[test]
    fn a_tag_that_is_set_back_is_news_and_a_late_report_is_not() {
        let (a1, b2) = (push("a", Some(1)), push("b", Some(2)));
        let observed = push("b", None);
        for (incoming, known, want) in [
            (push("a", Some(1)), vec![], None),
            // Told again, pushed again without a change, told by a sender without a clock.
            (push("a", Some(1)), vec![&a1], Some(0)),
            (push("a", Some(9)), vec![&a1], Some(0)),
            (push("a", None), vec![&a1], Some(0)),
            // Moved on.
            (push("b", Some(2)), vec![&a1], None),
            // Told late, told again late, set back, set back by nobody knows when.
            (push("a", Some(1)), vec![&b2, &a1], Some(1)),
            (push("a", Some(2)), vec![&b2, &a1], Some(1)),
            (push("a", Some(3)), vec![&b2, &a1], None),
            (push("a", None), vec![&b2, &a1], Some(1)),
            // What the registry was seen to hold has no time of its own.
            (push("b", Some(2)), vec![&observed, &a1], Some(0)),
            (push("a", Some(1)), vec![&observed, &a1], Some(1)),
            (push("a", Some(3)), vec![&observed, &a1], None),
        ] {
            let known: Vec<KnownPush> = known
                .into_iter()
                .map(|push: &ImagePushed| KnownPush {
                    digest: push.digest.clone().unwrap(),
                    at: push.at,
                })
                .collect();
            assert_eq!(repeated(&incoming, &known), want, "{:?} {known:?}", incoming.at);
        }
    }
}
