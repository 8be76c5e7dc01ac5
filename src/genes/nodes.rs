//! Chains of genes that may still become the best one, as a tree: every gene knows the one before
//! it. What all chains share is decided, and leaves.

use super::gene::Gene;
use std::collections::{BTreeSet, VecDeque};

/// A gene as the last of its best chain.
#[derive(Clone)]
pub(super) struct Node {
    pub gene: Gene,
    /// The sums of scores up to the gene's end, by reading frame.
    pub sums: [f64; 6],
    /// The gene's own frame.
    pub frame: usize,
    /// The chain's score.
    pub total: f64,
    /// The gene before it.
    pub before: Option<u64>,
}

/// The end of a chain: its score and its last gene.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Chain {
    pub total: f64,
    pub last: Option<u64>,
}

/// Nodes by number, in the order of their genes' ends.
#[derive(Default)]
pub(super) struct Nodes {
    first: u64,
    nodes: VecDeque<Node>,
    /// The last gene that is decided.
    decided: Option<u64>,
}

impl Nodes {
    pub fn push(&mut self, node: Node) -> u64 {
        self.nodes.push_back(node);
        self.first + self.nodes.len() as u64 - 1
    }

    fn get(&self, number: u64) -> Option<&Node> {
        self.nodes.get(number.checked_sub(self.first)? as usize)
    }

    /// The nodes whose genes end beyond `from`, up to `to`, and their numbers.
    pub fn ending(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Node)> {
        let start = self.nodes.partition_point(|node| node.gene.end <= from);
        let numbered = (self.first + start as u64..).zip(self.nodes.range(start..));
        numbered.take_while(move |(_, node)| node.gene.end <= to)
    }

    /// The genes that all chains ending in `roots` share and that did not leave before, in their
    /// order. Nodes that no chain needs are forgotten.
    pub fn decide(&mut self, roots: impl IntoIterator<Item = Option<u64>>) -> Vec<Gene> {
        let mut open = BTreeSet::new();
        for root in roots {
            match root {
                Some(root) if self.decided.is_none_or(|decided| root >= decided) => {
                    open.insert(root)
                }
                _ => return Vec::new(),
            };
        }
        while open.len() > 1 {
            let before = open.pop_last().and_then(|last| self.get(last)?.before);
            match before {
                Some(before) if self.decided.is_none_or(|decided| before >= decided) => {
                    open.insert(before)
                }
                _ => return Vec::new(),
            };
        }
        let shared = open.pop_last();
        let (mut genes, mut next) = (Vec::new(), shared);
        while next != self.decided
            && let Some(node) = next.and_then(|next| self.get(next))
        {
            genes.push(node.gene.clone());
            next = node.before;
        }
        genes.reverse();
        if let Some(shared) = shared {
            self.nodes.drain(..(shared - self.first) as usize);
            self.first = shared;
            self.decided = Some(shared);
        }
        genes
    }

    /// Nodes that are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}
