//! The index of an annotated VCF.
