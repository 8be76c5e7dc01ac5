//! What a run over variants says of itself: counts, and how well the model knows the reference.

use crate::run::summary::Summary;
use crate::score::{Background, Checked, Ledger};
use crate::table::Known;
use serde_json::json;

/// Bits a base from which a model knows hardly more of a sequence than its four letters.
const CHANCE: f64 = 1.95;

/// What was scored, with so many bases through the encoder.
pub(super) fn counts(
    (ledger, background): (&Ledger, Option<&Background>),
    checked: Checked,
    known: &Known,
    bases: u64,
) -> Summary {
    let statuses = ledger.statuses();
    let each = bases as f64 / (checked.scored as f64).max(1.0);
    let named = statuses.iter().map(|(name, n)| format!("{name} {n}"));
    let named: Vec<_> = named.collect();
    let mut summary = Summary {
        counted: format!(
            "{} alleles ({}), {each:.0} bases through the encoder an allele",
            ledger.rows().count(),
            named.join(", ")
        ),
        own: known.measured(),
        ..Summary::default()
    };
    summary.own.extend([
        ("scored".to_string(), json!(checked.scored)),
        ("statuses".to_string(), json!(statuses)),
        ("encoder_bases_per_allele".to_string(), json!(each)),
    ]);
    if let Some(background) = background {
        let counts = background.counts();
        let named = counts.iter().map(|(kind, n)| format!("{kind} {n}"));
        let named = named.collect::<Vec<_>>().join(", ");
        summary.notes.push(format!("background: {named}"));
        summary.own.insert("background".to_string(), json!(counts));
    }
    if let Some(bits) = known.bits() {
        let found = format!("the reference: {bits:.3} bits a base");
        if bits >= CHANCE {
            summary.warnings.push(format!(
                "{found}; the model predicts this sequence hardly better than chance: its scores \
                 say little"
            ));
        } else {
            summary.notes.push(found);
        }
    }
    let failed = ledger.rows().filter(|&i| !ledger.is_scored(i)).count();
    if failed > 0 {
        let what = format!("{failed} alleles have no scores");
        let why = format!("{what}: the column status says why");
        summary.warnings.push(why);
        summary.failed = Some(what);
    }
    summary
}
