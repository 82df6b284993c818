//! Which advisories are about the same vulnerability.

use std::collections::{BTreeSet, HashMap};

use crate::osv::Advisory;

/// Advisories about one vulnerability.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Every id of it.
    pub(crate) ids: BTreeSet<String>,
    /// The places of the advisories, ascending.
    pub(crate) members: Vec<usize>,
}

/// Groups advisories that are about the same vulnerability: those that share an id, an alias or a
/// single upstream.
///
/// A record with several upstreams is a bundle, such as a DSA that fixes five CVEs: it joins the
/// group of each of them instead of making them one. `related` ids say nothing about sameness.
pub(crate) fn clusters<'a>(advisories: impl Iterator<Item = &'a Advisory>) -> Vec<Cluster> {
    let mut ids = Ids::default();
    // Each advisory stands where one of its ids is, a bundle where each of them is.
    let mut stands: Vec<(usize, usize)> = Vec::new();
    for (number, advisory) in advisories.enumerate() {
        match advisory.upstream.as_slice() {
            several @ [_, _, ..] => {
                stands.extend(several.iter().map(|id| (ids.place(id), number)));
            }
            one => {
                let own = ids.place(&advisory.id);
                for id in advisory.aliases.iter().chain(one) {
                    let other = ids.place(id);
                    ids.join(own, other);
                }
                stands.push((own, number));
            }
        }
    }
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    let mut clusters: Vec<Cluster> = Vec::new();
    for (id, advisory) in stands {
        let number = *numbers.entry(ids.root(id)).or_insert_with(|| {
            clusters.push(Cluster { ids: BTreeSet::new(), members: Vec::new() });
            clusters.len() - 1
        });
        let members = &mut clusters[number].members;
        // Advisories come in order, so one that stands here already came last.
        if members.last() != Some(&advisory) {
            members.push(advisory);
        }
    }
    for place in 0..ids.names.len() {
        if let Some(number) = numbers.get(&ids.root(place)) {
            clusters[*number].ids.insert(ids.names[place].to_owned());
        }
    }
    clusters
}

/// Ids in disjoint sets: a forest in which the root of a tree stands for its set.
#[derive(Default)]
struct Ids<'a> {
    places: HashMap<&'a str, usize>,
    names: Vec<&'a str>,
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl<'a> Ids<'a> {
    fn place(&mut self, id: &'a str) -> usize {
        *self.places.entry(id).or_insert_with(|| {
            self.names.push(id);
            self.parents.push(self.parents.len());
            self.sizes.push(1);
            self.names.len() - 1
        })
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.parents[place] != place {
            // Each step halves the way for the next time.
            self.parents[place] = self.parents[self.parents[place]];
            place = self.parents[place];
        }
        place
    }

    fn join(&mut self, left: usize, right: usize) {
        let (left, right) = (self.root(left), self.root(right));
        if left == right {
            return;
        }
        // The smaller tree goes under the larger, which keeps every way short.
        let (under, over) =
            if self.sizes[left] < self.sizes[right] { (left, right) } else { (right, left) };
        self.parents[under] = over;
        self.sizes[over] += self.sizes[under];
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn advisory(id: &str, aliases: &[&str], upstream: &[&str]) -> Advisory {
        let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        Advisory {
            id: id.to_owned(),
            aliases: texts(aliases),
            upstream: texts(upstream),
            ..Advisory::default()
        }
    }

    fn grouped(records: &[(&str, &[&str], &[&str])]) -> Vec<String> {
        let advisories: Vec<Advisory> =
            records.iter().map(|(id, aliases, upstream)| advisory(id, aliases, upstream)).collect();
        let mut groups: Vec<String> = clusters(advisories.iter())
            .into_iter()
            .map(|cluster| {
                let ids: Vec<String> = cluster.ids.into_iter().collect();
                format!("{} from {:?}", ids.join(" "), cluster.members)
            })
            .collect();
        groups.sort();
        groups
    }

    #[test]
    fn records_about_one_vulnerability_are_one_finding() {
        assert_eq!(
            grouped(&[
                ("GHSA-1", &["CVE-1"], &[]),
                ("PYSEC-1", &["BIT-1"], &[]),
                ("PYSEC-2", &["CVE-2"], &[]),
                // It joins the first two, which share no id with each other.
                ("OSV-1", &["BIT-1", "CVE-1"], &[]),
            ]),
            ["BIT-1 CVE-1 GHSA-1 OSV-1 PYSEC-1 from [0, 1, 3]", "CVE-2 PYSEC-2 from [2]"]
        );
    }

    #[test]
    fn a_bundle_joins_each_of_its_vulnerabilities_and_makes_none_of_them_one() {
        assert_eq!(
            grouped(&[
                ("DEBIAN-CVE-1", &[], &["CVE-1"]),
                ("DSA-7", &[], &["CVE-1", "CVE-2", "CVE-3", "CVE-3"]),
                ("DEBIAN-CVE-2", &[], &["CVE-2"]),
            ]),
            ["CVE-1 DEBIAN-CVE-1 from [0, 1]", "CVE-2 DEBIAN-CVE-2 from [1, 2]", "CVE-3 from [1]"]
        );
    }

    #[test]
    fn a_package_with_very_many_records_is_grouped_at_once() {
        let number = 60_000;
        let mut advisories: Vec<Advisory> = (0..number)
            .map(|n| advisory(&format!("DEBIAN-CVE-{n}"), &[], &[&format!("CVE-{n}")]))
            .collect();
        // A chain in which each record shares an alias with the one before.
        advisories.extend((0..number).map(|n| {
            advisory(&format!("X-{n}"), &[&format!("L-{n}"), &format!("L-{}", n + 1)], &[])
        }));
        let started = Instant::now();
        assert_eq!(clusters(advisories.iter()).len(), number + 1);
        // By comparing each record with each group it takes minutes.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
