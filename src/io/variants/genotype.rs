//! Genotypes: which allele each haplotype of one sample carries.

use serde::{Deserialize, Serialize};

/// A genotype of one sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genotype {
    /// The allele on each haplotype: 0 is REF, 1 the first alternate; `None` is unknown.
    pub alleles: Vec<Option<u32>>,
    /// The order of the haplotypes means something: all alleles are phased, or there is but one.
    pub phased: bool,
    /// PS: haplotypes are in the same order only where this is the same. `None` for none, which
    /// with `phased` means the whole contig.
    pub phase_set: Option<String>,
}

impl Genotype {
    /// The genotype of a sample's column, whose keys FORMAT lists; `None` if there is no GT.
    /// `alternates` is the number of alternate alleles.
    ///
    /// # Errors
    /// What is wrong with the column.
    pub(super) fn parse(
        format: &str,
        column: &str,
        alternates: usize,
    ) -> Result<Option<Self>, String> {
        let mut values = column.split(':');
        let (mut genotype, mut phase_set) = (None, None);
        for key in format.split(':') {
            // Fields at the end may be left out.
            let value = values.next().filter(|&value| value != ".");
            match key {
                "GT" => genotype = Some(value.unwrap_or(".")),
                "PS" => phase_set = value.map(str::to_string),
                _ => {}
            }
        }
        if values.next().is_some() {
            return Err("a sample has more fields than FORMAT".to_string());
        }
        let Some(text) = genotype else {
            return Ok(None);
        };
        // VCF 4.4 may say before the first allele whether it is phased.
        let bare = text.strip_prefix(['|', '/']).unwrap_or(text);
        let allele = |word: &str| match word {
            "." => Ok(None),
            _ if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(format!("genotype \"{text}\" is not one"))
            }
            _ => match word.parse::<u32>() {
                Ok(allele) if allele as usize <= alternates => Ok(Some(allele)),
                _ => Err(format!(
                    "genotype \"{text}\" names an allele that the record does not have"
                )),
            },
        };
        let alleles: Result<Vec<_>, _> = bare.split(['|', '/']).map(allele).collect();
        Ok(Some(Self {
            alleles: alleles?,
            phased: !bare.contains('/') && !text.starts_with('/'),
            phase_set,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: &str, column: &str) -> Result<Option<Genotype>, String> {
        Genotype::parse(format, column, 2)
    }

    #[test]
    fn phase_ploidy_and_missing_alleles_are_read() {
        for (text, alleles, phased) in [
            ("0|1", vec![Some(0), Some(1)], true),
            ("0/2", vec![Some(0), Some(2)], false),
            ("./.", vec![None, None], false),
            (".|1", vec![None, Some(1)], true),
            ("1", vec![Some(1)], true),
            (".", vec![None], true),
            ("0|1/2", vec![Some(0), Some(1), Some(2)], false),
            ("|0|1", vec![Some(0), Some(1)], true),
            ("/1", vec![Some(1)], false),
        ] {
            let found = parse("GT:DP", &format!("{text}:7")).unwrap().unwrap();
            assert_eq!((found.alleles, found.phased), (alleles, phased), "{text}");
        }
        let found = parse("GT:PS", "0|1:4711").unwrap().unwrap();
        assert_eq!(found.phase_set.as_deref(), Some("4711"));
        assert_eq!(parse("GT:PS", "0|1").unwrap().unwrap().phase_set, None);
        assert_eq!(parse("GT:PS", "0|1:.").unwrap().unwrap().phase_set, None);
        assert_eq!(parse("DP:AD", "3").unwrap(), None);
        assert_eq!(parse(".", ".").unwrap(), None);
    }

    #[test]
    fn what_is_no_genotype_is_refused() {
        for bad in [
            "",
            "0|",
            "|",
            "x",
            "0|3",
            "-1",
            "+1",
            "0||1",
            "99999999999",
            "0:1",
        ] {
            assert!(parse("GT", bad).is_err(), "{bad}");
        }
    }
}
