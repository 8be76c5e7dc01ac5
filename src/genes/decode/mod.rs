//! Genes from probabilities: a dynamic programme over open reading frames.
//!
//! ```text
//! s_f(i) = ln P(codon position of base i in frame f) − ln P(noncoding), cut to ±LIMIT
//! gene   = Σ (s_f(i) / REPEATS + OPEN) + start + stop − COST
//! start  = mark(first base) + binding site − RARE, by the first codon
//! stop   = mark(last base)
//! mark   = ln P(mark) − ln (P(mark) + P(the codon position it marks) + P(all else) · ASIDE)
//! chain  = Σ genes + Σ overlaps
//! ```
//!
//! What a head says of a base it has from the bases around it, so neighbours say the same again:
//! REPEATS of them count as one. Starts and stops are said once, and count whole. Bases that two
//! genes share count once, for the gene that they speak for. A gene begins with a start codon, ends
//! with the first stop codon in its frame, or goes on beyond an end of the sequence.
//!
//! The constants are those that place most genes right in the genomes of docs/genes.md. They lie on
//! a plateau: REPEATS from 60 to 120, LIMIT from 2 to 4 and COST from 1.4 to 3 change that by 0.1 %.
//!
//! One pass from left to right. Memory: the genes that are not decided yet, those of a few reading
//! frames; a reading frame longer than [`LONGEST`] begins anew.

use super::binding::binding;
use super::code::{GeneticCode, is_start, letters, opposite};
use super::evidence::Evidence;
use super::gene::Gene;
use super::nodes::{Chain, Node, Nodes};
use super::own::{Around, BEFORE, FAR, Own};
use crate::sequence::{A, G, N, base, complement};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bases that say the same.
const REPEATS: f64 = 80.0;
/// What a base is worth for the reading frame being open: 61 of 64 codons are no stops.
const OPEN: f64 = 0.016; // −ln(61/64) / 3
/// What a gene must be worth.
const COST: f64 = 2.0;
/// What a gene costs that starts with ATG, GTG or TTG: heads take the rare ones too often.
const RARE: [f64; 3] = [0.0, 0.3, 0.7];
/// What a head's mark of a start counts where a genome's own starts are known, and what pairs of
/// codons and distances of genes do.
const OWN: [f64; 3] = [0.4, 0.3, 0.4];
/// What it costs a gene to go on beyond an end of the sequence.
const CUT: f64 = 2.0;
/// What an unknown base counts against a gene: none goes on over the gap between two contigs.
const UNKNOWN_BASE: f64 = 1.0;
/// Bases of the shortest gene, and of the shortest one that an end of the sequence cuts.
const SHORTEST: [u64; 2] = [90, 60];
/// Bases that two genes may share.
const OVERLAP: u64 = 60;
/// Bases of the longest reading frame.
const LONGEST: u64 = 150_000;
/// Bases between attempts to decide.
const EVERY: u64 = 4096;

/// A place where a gene of the forward strand may begin, or one of the reverse strand end.
#[derive(Clone)]
struct Edge {
    at: u64,
    sums: [f64; 6],
    /// The best chain of genes that end before it.
    chain: Chain,
    /// What the mark there says.
    mark: f64,
    /// Its codon; none at an end of the sequence.
    codon: Option<[u8; 3]>,
}

/// What was known before a base.
#[derive(Clone, Default)]
struct Before {
    sums: [f64; 6],
    chain: Chain,
    /// Of the base: what marks say of it, by strand.
    starts: [f64; 2],
    stops: [f64; 2],
    code: u8,
}

/// Reads the bases of one sequence and their probabilities, and gives its genes.
pub struct Decoder {
    code: GeneticCode,
    /// The position of the first base.
    first: u64,
    /// The next base's position, of those that are looked at.
    at: u64,
    /// Bases that came and wait until those behind them are known: sites of the reverse strand.
    ahead: VecDeque<Evidence>,
    /// The bases before `recent`, the latest first: sites of the forward strand.
    behind: VecDeque<u8>,
    sums: [f64; 6],
    chain: Chain,
    /// The last three bases, oldest first.
    recent: [Before; 3],
    /// By frame, the starts of the forward strand since its last stop.
    starts: [Vec<Edge>; 3],
    /// By frame, the last stop of the reverse strand.
    stops: [Option<Edge>; 3],
    nodes: Nodes,
    /// What is known of the genome's own genes.
    own: Option<Arc<Own>>,
}

impl Decoder {
    /// For a sequence whose first base has this position; `own`: what was learned of its genome.
    pub fn new(code: GeneticCode, first: u64, own: Option<Arc<Own>>) -> Self {
        let begun = Edge {
            at: first,
            sums: [0.0; 6],
            chain: Chain::default(),
            mark: -CUT,
            codon: None,
        };
        let mut decoder = Self {
            code,
            first,
            at: first,
            ahead: VecDeque::new(),
            behind: VecDeque::new(),
            sums: [0.0; 6],
            chain: Chain::default(),
            recent: Default::default(),
            starts: Default::default(),
            stops: Default::default(),
            nodes: Nodes::default(),
            own,
        };
        // Genes may have begun before the sequence, in each frame.
        for frame in 0..3 {
            let skipped = (frame as u64 + 3 - first % 3) % 3;
            let mut edge = begun.clone();
            edge.at += skipped;
            decoder.starts[frame].push(edge.clone());
            decoder.stops[frame] = Some(edge);
        }
        decoder
    }

    /// Takes the next base; gives the genes that are decided.
    pub fn push(&mut self, evidence: Evidence) -> Vec<Gene> {
        self.ahead.push_back(evidence);
        if self.ahead.len() > BEFORE {
            self.step()
        } else {
            Vec::new()
        }
    }

    /// Looks at the first base that waits.
    fn step(&mut self) -> Vec<Gene> {
        let Some(evidence) = self.ahead.pop_front() else {
            return Vec::new();
        };
        if self.at >= self.first + 3 {
            self.behind.push_front(self.recent[0].code);
            self.behind.truncate(BEFORE);
        }
        self.recent.rotate_left(1);
        self.recent[2] = Before {
            sums: self.sums,
            chain: self.chain,
            starts: [0, 1].map(|strand| evidence.start(strand)),
            stops: [0, 1].map(|strand| evidence.stop(strand)),
            code: evidence.code,
        };
        self.add(&evidence);
        self.pair();
        self.at += 1;
        // Edges at the beginning stand where their frame begins.
        if self.at < self.first + 3 {
            let (at, sums) = (self.at, self.sums);
            let starts = self.starts.iter_mut().flatten();
            let edges = starts.chain(self.stops.iter_mut().flatten());
            edges
                .filter(|edge| edge.at == at)
                .for_each(|edge| edge.sums = sums);
        }
        if self.at >= self.first + 3 {
            self.codon();
        }
        if self.at.is_multiple_of(EVERY) {
            self.decide()
        } else {
            Vec::new()
        }
    }

    /// The genes that were left when the sequence has ended.
    pub fn finish(mut self) -> Vec<Gene> {
        let mut genes = Vec::new();
        while !self.ahead.is_empty() {
            genes.extend(self.step());
        }
        // Genes may go on beyond the end: they end with the last whole codon of their frame.
        for over in [2, 1, 0] {
            if self.at < self.first + 3 + over {
                continue;
            }
            let frame = ((self.at - over) % 3) as usize;
            let edge = match over {
                0 => (self.at, self.sums),
                over => (self.at - over, self.recent[3 - over as usize].sums),
            };
            let starts = std::mem::take(&mut self.starts[frame]);
            self.forward(frame, &starts, edge, -CUT, false);
            if let Some(stop) = self.stops[frame].take() {
                self.reverse(frame, &stop, edge, -CUT, None);
            }
        }
        let last = self.chain.last;
        genes.extend(self.nodes.decide([last]));
        genes
    }

    /// Adds a base's scores to the sums of the six frames.
    fn add(&mut self, evidence: &Evidence) {
        if evidence.code == N {
            self.sums.iter_mut().for_each(|sum| *sum -= UNKNOWN_BASE);
            return;
        }
        for strand in 0..2 {
            for frame in 0..3 {
                let from = ((self.at + 3 - frame) % 3) as usize;
                let position = if strand == 0 { from } else { 2 - from };
                let score = evidence.coding(strand, position) / REPEATS + OPEN;
                self.sums[strand * 3 + frame as usize] += score;
            }
        }
    }

    /// Adds what the last two codons say to the sums of their frame, of both strands.
    fn pair(&mut self) {
        let Some(own) = &self.own else {
            return;
        };
        let [third, second, first] = [0, 1, 2].map(|i| self.behind.get(i).copied().unwrap_or(N));
        let [fourth, fifth, last] = [0, 1, 2].map(|i| self.recent[i].code);
        let pair = [first, second, third, fourth, fifth, last].map(base);
        let frame = ((self.at + 1) % 3) as usize;
        let [forward, reverse] = own.hexamers.score(pair);
        self.sums[frame] += OWN[1] * forward;
        self.sums[3 + frame] += OWN[1] * reverse;
    }

    /// What speaks for a start: the head's mark, the codon, and the bases before it, the nearest
    /// first.
    fn start(&self, mark: f64, codon: [u8; 3], before: impl Iterator<Item = u8>) -> f64 {
        match &self.own {
            Some(own) => OWN[0] * mark + own.starts.score(&Around::new(codon, before)),
            None => mark + binding(before) - rare(codon),
        }
    }

    /// Looks at the last three bases as a codon of both strands.
    fn codon(&mut self) {
        let codon = [0, 1, 2].map(|i| self.recent[i].code);
        if codon.contains(&N) {
            return;
        }
        let start = self.at - 3;
        let frame = (start % 3) as usize;
        let end = (self.at, self.sums);
        let edge = |before: &Before, mark, codon| Edge {
            at: start,
            sums: before.sums,
            chain: before.chain,
            mark,
            codon: Some(codon),
        };
        if self.code.is_stop(codon) {
            let starts = std::mem::take(&mut self.starts[frame]);
            self.forward(frame, &starts, end, self.recent[2].stops[0], true);
        } else if is_start(codon) {
            let before = self.behind.iter().copied();
            let mark = self.start(self.recent[0].starts[0], codon, before);
            let edge = edge(&self.recent[0], mark, codon);
            let starts = &mut self.starts[frame];
            starts.retain(|edge| start - edge.at < LONGEST);
            starts.push(edge);
        }
        let read = opposite(codon);
        if self.code.is_stop(read) {
            self.stops[frame] = Some(edge(&self.recent[0], self.recent[0].stops[1], read));
        } else if is_start(read)
            && let Some(stop) = self.stops[frame].take()
        {
            let before = self.ahead.iter().map(|ahead| complement(ahead.code));
            let mark = self.start(self.recent[2].starts[1], read, before);
            self.reverse(frame, &stop, end, mark, Some(read));
            self.stops[frame] = Some(stop).filter(|stop| start - stop.at < LONGEST);
        }
    }

    /// The best gene of the forward strand that ends here.
    fn forward(
        &mut self,
        frame: usize,
        starts: &[Edge],
        end: (u64, [f64; 6]),
        mark: f64,
        stops: bool,
    ) {
        let mut best: Option<Node> = None;
        for edge in starts {
            let node = self.gene(
                frame,
                edge,
                end,
                mark + edge.mark,
                [edge.codon.is_some(), stops],
            );
            if let Some(mut node) = node
                && best.as_ref().is_none_or(|best| node.total > best.total)
            {
                node.gene.first_codon = edge.codon.map(letters);
                node.gene.stops = stops;
                best = Some(node);
            }
        }
        self.keep(best);
    }

    /// The gene of the reverse strand that begins here and ends at `stop`.
    fn reverse(
        &mut self,
        frame: usize,
        stop: &Edge,
        end: (u64, [f64; 6]),
        mark: f64,
        codon: Option<[u8; 3]>,
    ) {
        let whole = [stop.codon.is_some(), codon.is_some()];
        let mut node = self.gene(3 + frame, stop, end, mark + stop.mark, whole);
        if let Some(node) = &mut node {
            node.gene.first_codon = codon.map(letters);
            node.gene.stops = stop.codon.is_some();
        }
        self.keep(node);
    }

    /// The gene from `edge` to `end` behind the best chain that it may follow, if it is worth one.
    fn gene(
        &self,
        frame: usize,
        edge: &Edge,
        end: (u64, [f64; 6]),
        marks: f64,
        whole: [bool; 2],
    ) -> Option<Node> {
        let (end, sums) = end;
        let least = SHORTEST[usize::from(whole != [true, true])];
        if end < edge.at + least {
            return None;
        }
        let score = sums[frame] - edge.sums[frame] + marks - COST;
        if score <= 0.0 {
            return None;
        }
        let mut chain = edge.chain;
        let to = (edge.at + OVERLAP).min(end - 1);
        for (number, other) in self.nodes.ending(self.reach(edge.at), to) {
            if other.gene.start >= edge.at {
                continue;
            }
            let total = other.total + self.neighbours(frame, edge, other);
            if total > chain.total {
                let last = Some(number);
                chain = Chain { total, last };
            }
        }
        Some(Node {
            gene: Gene {
                start: edge.at,
                end,
                reverse: frame >= 3,
                first_codon: None,
                stops: false,
                score,
            },
            sums,
            frame,
            total: chain.total + score,
            before: chain.last,
        })
    }

    /// The end of the first gene that says something of one that begins here.
    fn reach(&self, at: u64) -> u64 {
        match self.own {
            Some(_) => at.saturating_sub(FAR),
            None => at,
        }
    }

    /// What it counts that a gene from `edge` on follows `other`: bases that both have count once, and
    /// genes of a strand have their distances.
    fn neighbours(&self, frame: usize, edge: &Edge, other: &Node) -> f64 {
        let shared = |frame: usize| other.sums[frame] - edge.sums[frame];
        let mut score = 0.0;
        if other.gene.end > edge.at {
            score -= shared(frame).min(shared(other.frame));
        }
        if let Some(own) = &self.own
            && other.gene.reverse == (frame >= 3)
        {
            let distance = edge.at as i64 - other.gene.end as i64;
            score += OWN[2] * own.distances.score(distance);
        }
        score
    }

    fn keep(&mut self, node: Option<Node>) {
        let Some(node) = node else {
            return;
        };
        let total = node.total;
        let last = Some(self.nodes.push(node));
        if total > self.chain.total {
            self.chain = Chain { total, last };
        }
    }

    /// The genes that no later base can change.
    fn decide(&mut self) -> Vec<Gene> {
        let edges = self
            .starts
            .iter()
            .flatten()
            .chain(self.stops.iter().flatten());
        let edges: Vec<&Edge> = edges.collect();
        let overlapped = edges
            .iter()
            .flat_map(|edge| self.nodes.ending(self.reach(edge.at), edge.at + OVERLAP))
            .map(|(number, _)| Some(number));
        let recent = self.nodes.ending(self.at.saturating_sub(3), self.at);
        let roots: Vec<Option<u64>> = edges
            .iter()
            .map(|edge| edge.chain.last)
            .chain(overlapped)
            .chain(recent.map(|(number, _)| Some(number)))
            .chain(self.recent.iter().map(|before| before.chain.last))
            .chain([self.chain.last])
            .collect();
        self.nodes.decide(roots)
    }
}

/// What a start codon costs.
fn rare(codon: [u8; 3]) -> f64 {
    match base(codon[0]) {
        A => RARE[0],
        G => RARE[1],
        _ => RARE[2],
    }
}

#[cfg(test)]
mod tests;
