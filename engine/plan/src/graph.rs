//! The order of steps, and the circles that make one impossible.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use petgraph::Direction;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// The steps of a pipeline by their place in the file; an edge leads from a step to one it needs.
pub(crate) struct Graph {
    graph: DiGraph<(), ()>,
}

impl Graph {
    /// `count` steps, and for each edge the step and what it needs.
    pub(crate) fn new(count: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut graph = DiGraph::with_capacity(count, 0);
        for _ in 0..count {
            graph.add_node(());
        }
        let mut seen = HashSet::new();
        for edge in edges {
            if seen.insert(edge) {
                graph.add_edge(NodeIndex::new(edge.0), NodeIndex::new(edge.1), ());
            }
        }
        Self { graph }
    }

    fn needs(&self, step: usize) -> Vec<usize> {
        let mut needs: Vec<usize> = self
            .graph
            .neighbors_directed(NodeIndex::new(step), Direction::Outgoing)
            .map(NodeIndex::index)
            .collect();
        needs.sort_unstable();
        needs
    }

    /// One shortest circle for each set of steps that wait for each other, from the step that
    /// stands first in the file back to it: `[a, b, a]`.
    pub(crate) fn circles(&self) -> Vec<Vec<usize>> {
        let mut circles: Vec<Vec<usize>> = kosaraju_scc(&self.graph)
            .into_iter()
            .filter_map(|mut knot| {
                knot.sort_unstable();
                let first = *knot.first()?;
                let alone = knot.len() == 1 && !self.graph.contains_edge(first, first);
                if alone { None } else { self.circle(first.index(), &knot) }
            })
            .collect();
        circles.sort_unstable();
        circles
    }

    /// The shortest way from `start` along needs back to itself, within the steps of its knot.
    fn circle(&self, start: usize, knot: &[NodeIndex]) -> Option<Vec<usize>> {
        let mut came_from: HashMap<usize, Option<usize>> =
            knot.iter().map(|step| (step.index(), None)).collect();
        let mut queue = VecDeque::from([start]);
        while let Some(step) = queue.pop_front() {
            for needed in self.needs(step) {
                if needed == start {
                    let mut path = vec![start, step];
                    let mut at = step;
                    while at != start {
                        at = (*came_from.get(&at)?)?;
                        path.push(at);
                    }
                    path.reverse();
                    return Some(path);
                }
                if let Some(from @ None) = came_from.get_mut(&needed) {
                    *from = Some(step);
                    queue.push_back(needed);
                }
            }
        }
        None
    }

    /// Every step behind what it needs, otherwise in the order of the file. Steps of a circle, and
    /// those behind them, are left out.
    pub(crate) fn order(&self) -> Vec<usize> {
        let count = self.graph.node_count();
        let mut waits: Vec<usize> = (0..count).map(|step| self.needs(step).len()).collect();
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..count).filter(|step| waits[*step] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(count);
        while let Some(Reverse(step)) = ready.pop() {
            order.push(step);
            let dependents =
                self.graph.neighbors_directed(NodeIndex::new(step), Direction::Incoming);
            for dependent in dependents {
                waits[dependent.index()] -= 1;
                if waits[dependent.index()] == 0 {
                    ready.push(Reverse(dependent.index()));
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_file_where_nothing_is_needed() {
        assert_eq!(Graph::new(4, []).order(), [0, 1, 2, 3]);
        assert_eq!(Graph::new(4, [(0, 3), (1, 0)]).order(), [2, 3, 0, 1]);
        // A double edge is one.
        assert_eq!(Graph::new(2, [(0, 1), (0, 1)]).order(), [1, 0]);
    }

    #[test]
    fn circles_are_shown_shortest_and_from_the_first_step() {
        assert_eq!(Graph::new(2, [(0, 0)]).circles(), [vec![0, 0]]);
        assert_eq!(
            Graph::new(5, [(0, 1), (1, 2), (2, 0), (2, 1), (3, 4), (4, 3)]).circles(),
            [vec![0, 1, 2, 0], vec![3, 4, 3]]
        );
        assert!(Graph::new(3, [(0, 1), (1, 2), (0, 2)]).circles().is_empty());
    }
}
