//! VCF with scores in its INFO column.
