//! The trees of a bigWig file: of names, and of the places of data.

pub(super) const NAMES: u32 = 0x78CA_8C91;
pub(super) const INDEX: u32 = 0x2468_ACE0;

/// Where a section of data lies on the genome, and its bytes in the file.
#[derive(Clone, Copy)]
pub(super) struct Section {
    pub contig: u32,
    pub start: u32,
    pub end: u32,
    pub bytes: u64,
}

/// Children of a node.
const CHILDREN: usize = 256;

/// The tree of contigs' names, ids and lengths, whose file position is `at`.
pub(super) fn names(contigs: &[(String, u32)], at: u64) -> Vec<u8> {
    let mut order: Vec<u32> = (0..contigs.len() as u32).collect();
    order.sort_by_key(|id| &contigs[*id as usize].0);
    let width = contigs.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or(1);
    let key = |i: usize| {
        let mut key = contigs[order[i] as usize].0.as_bytes().to_vec();
        key.resize(width, 0);
        key
    };
    let mut out = Vec::new();
    for field in [NAMES, CHILDREN as u32, width as u32, 8] {
        out.extend(field.to_le_bytes());
    }
    out.extend([order.len() as u64, 0].map(u64::to_le_bytes).concat());
    let leaf = |i: usize| {
        let id = order[i];
        let place = [id, contigs[id as usize].1].map(u32::to_le_bytes);
        [key(i), place.concat()].concat()
    };
    let inner =
        |from: usize, _: usize, child: u64| [key(from), child.to_le_bytes().to_vec()].concat();
    let widths = [width + 8, width + 8];
    tree(&mut out, at + 32, order.len(), widths, &leaf, &inner);
    out
}

/// The index of sections, which lie from `data` on and of which each has at most `items`; its file
/// position is `at`.
pub(super) fn index(sections: &[Section], data: u64, at: u64, items: usize) -> Vec<u8> {
    let mut places = vec![data];
    places.extend(sections.iter().scan(data, |at, section| {
        *at += section.bytes;
        Some(*at)
    }));
    let bounds = |from: usize, to: usize| -> Vec<u8> {
        let (first, last) = (sections.get(from), sections.get(to.wrapping_sub(1)));
        let first = first.map_or([0; 2], |s| [s.contig, s.start]);
        let last = last.map_or([0; 2], |s| [s.contig, s.end]);
        let fields = [first, last].concat().into_iter();
        fields.flat_map(u32::to_le_bytes).collect()
    };
    let mut out = Vec::new();
    out.extend([INDEX, CHILDREN as u32].map(u32::to_le_bytes).concat());
    out.extend((sections.len() as u64).to_le_bytes());
    out.extend(bounds(0, sections.len()));
    out.extend(at.to_le_bytes()); // the end of the data
    out.extend([items as u32, 0].map(u32::to_le_bytes).concat());
    let leaf = |i: usize| {
        let place = [places[i], sections[i].bytes].map(u64::to_le_bytes);
        [bounds(i, i + 1), place.concat()].concat()
    };
    let inner = |from: usize, to: usize, child: u64| {
        [bounds(from, to), child.to_le_bytes().to_vec()].concat()
    };
    tree(&mut out, at + 48, sections.len(), [32, 24], &leaf, &inner);
    out
}

/// Appends a tree of `count` leaf items, of which [`CHILDREN`] share a node, from its root down;
/// `at`: the root's place in the file. `widths`: bytes of an item of a leaf and of an inner node.
/// `inner` is given the range of leaf items below a child, and the child's place.
fn tree(
    out: &mut Vec<u8>,
    mut at: u64,
    count: usize,
    widths: [usize; 2],
    leaf: &dyn Fn(usize) -> Vec<u8>,
    inner: &dyn Fn(usize, usize, u64) -> Vec<u8>,
) {
    // Leaf items below one item of each level, the root's level first.
    let mut below = vec![1];
    while below[0] * CHILDREN < count {
        below.insert(0, below[0] * CHILDREN);
    }
    for (level, &each) in below.iter().enumerate() {
        let width = widths[usize::from(each > 1)];
        let nodes = count.div_ceil(each * CHILDREN).max(1);
        let next = at + (nodes * (4 + CHILDREN * width)) as u64;
        let child = below
            .get(level + 1)
            .map_or(0, |each| 4 + CHILDREN * widths[usize::from(*each > 1)]);
        for node in 0..nodes {
            let first = node * CHILDREN;
            let items = count.div_ceil(each).saturating_sub(first).min(CHILDREN);
            out.extend([u8::from(each == 1), 0]);
            out.extend((items as u16).to_le_bytes());
            for item in first..first + items {
                let range = (item * each, ((item + 1) * each).min(count));
                out.extend(match each {
                    1 => leaf(item),
                    _ => inner(range.0, range.1, next + (item * child) as u64),
                });
            }
            // Nodes have one size.
            out.resize(out.len() + (CHILDREN - items) * width, 0);
        }
        at = next;
    }
}
