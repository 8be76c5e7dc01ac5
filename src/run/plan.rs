//! What each shard of a run would take, in lines of a table.

use super::estimate::Estimate;
use crate::sequence::shard::Shard;

/// Contigs that a line names.
const NAMED: usize = 6;

/// The first line.
pub fn header() -> String {
    "shard\tbases\trows\toutput_bytes\tmemory_bytes\tseconds\tcontigs\tnames\n".to_string()
}

/// The line of a shard: bases through the encoder, at so many a second; its contigs, of which the
/// first few are named.
pub fn line(shard: Shard, contigs: &[String], estimate: &Estimate, speed: f64) -> String {
    let Shard { index, of } = shard;
    let (bases, rows) = (
        estimate.bases.unwrap_or_default(),
        estimate.rows.unwrap_or_default(),
    );
    let mut names = contigs[..contigs.len().min(NAMED)].join(",");
    if contigs.len() > NAMED {
        names += ",...";
    }
    format!(
        "{index}/{of}\t{bases}\t{rows}\t{}\t{}\t{:.0}\t{}\t{names}\n",
        rows.saturating_mul(estimate.row_bytes),
        estimate.memory(),
        bases as f64 / speed,
        contigs.len(),
    )
}
