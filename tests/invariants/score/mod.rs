//! What variant scores promise: a fork says what the whole mutated chromosome would, for less.

mod scorer;
mod whole;

use crate::{folder, step};
use crocuta::encoder::{Encoder, Segment};
use crocuta::score::{Mode, Settings, Window};
use crocuta::sequence::allele::Variant;
use crocuta::sequence::{complement, reverse_complement};
use crocuta::table::SCORES;
use scorer::{CAUSAL, bases, change, changes, load, run, settings};
use whole::{check, close, mutated, plain};

/// Longer than the HyenaDNA golden's filter of 130 taps.
const LENGTH: usize = 300;

#[test]
fn forks_score_as_the_whole_mutated_chromosome_does() {
    let codes = bases(LENGTH, 1);
    let variants = changes(&codes);
    for (name, scorer) in CAUSAL.iter() {
        for (after, chunk) in [(64, 1000), (1, 7), (17, 32), (1000, 128)] {
            let (found, _) = run(
                scorer,
                &settings(Mode::Stream, after, chunk),
                &codes,
                false,
                &variants,
            );
            for (variant, scores) in variants.iter().zip(&found) {
                check(scorer, after, &codes, variant, scores, name);
            }
        }
    }
}

#[test]
fn unknown_bases_are_left_out_of_both_sums() {
    let mut codes = bases(120, 2);
    codes[60] = 4;
    let variant = change(&codes, 50, 1, &[(codes[50] + 1) % 4]);
    for (name, scorer) in CAUSAL.iter() {
        let (found, _) = run(
            scorer,
            &settings(Mode::Stream, 20, 64),
            &codes,
            false,
            std::slice::from_ref(&variant),
        );
        assert_eq!((found[0].n_ref, found[0].n_alt), (20, 20), "{name}");
        let whole = plain(scorer, &codes);
        let expected: f64 = (50..71).filter(|&i| i != 60).map(|i| whole.logp[i]).sum();
        close(found[0].ll_ref, expected, 1e-4, name);
    }
}

#[test]
fn what_changes_nothing_scores_exactly_zero() {
    let codes = bases(200, 3);
    let variants = [
        change(&codes, 0, 1, &codes[..1]),
        change(&codes, 90, 2, &codes[90..92]),
    ];
    for (name, scorer) in CAUSAL.iter() {
        for mode in [Mode::Stream, Mode::Window(Window { size: 64, left: 32 })] {
            let (found, _) = run(scorer, &settings(mode, 30, 64), &codes, false, &variants);
            for scores in found {
                assert_eq!(scores.ll_ref, scores.ll_alt, "{name}");
                for (value, of) in scores
                    .values
                    .iter()
                    .zip(SCORES.iter().map(|score| score.name))
                {
                    let free = ["dot", "dot_win", "jsd_max_offset"].contains(&of);
                    assert!(
                        free || *value == 0.0 || value.is_nan(),
                        "{name}: {of} is {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_encoder_reads_the_reference_once_and_each_alternate_s_suffix() {
    let codes = bases(280, 4);
    let (_, scorer) = &CAUSAL[0];
    let sites = [3, 50, 51, 52, 90, 200];
    let mut variants = Vec::new();
    for site in sites {
        for shift in 1..4 {
            variants.push(change(&codes, site, 1, &[(codes[site] + shift) % 4]));
        }
    }
    for after in [1, 16, 64] {
        let (_, work) = run(
            scorer,
            &settings(Mode::Stream, after, 256),
            &codes,
            false,
            &variants,
        );
        let reference = (200 + 1 + after) as u64;
        assert_eq!(work, reference + (variants.len() * after) as u64);
    }
}

/// What lies further back than asked for is not read; nor is what lies between far sites.
#[test]
fn a_shorter_context_reads_only_so_much_before_each_site() {
    let codes = bases(LENGTH, 5);
    let variants = [80, 85, 260].map(|i| change(&codes, i, 1, &[(codes[i] + 1) % 4]));
    for (name, scorer) in CAUSAL.iter() {
        let all = settings(Mode::Stream, 10, 64);
        let settings = Settings {
            context: Some(30),
            ..all.clone()
        };
        let (found, work) = run(scorer, &settings, &codes, false, &variants);
        assert_eq!(work, (96 - 50) + (271 - 230) + 3 * 10, "{name}");
        for (i, start) in [(0, 50), (1, 50), (2, 230)] {
            let mut near = variants[i].clone();
            near.start -= start;
            let (alone, _) = run(scorer, &all, &codes[start as usize..], false, &[near]);
            close(found[i].ll_alt, alone[0].ll_alt, 1e-4, name);
            close(found[i].ll_ref, alone[0].ll_ref, 1e-4, name);
        }
    }
}

fn mirrored(codes: &[u8], variant: &Variant) -> (Vec<u8>, Variant) {
    let mut turned = codes.to_vec();
    reverse_complement(&mut turned);
    let turn = |codes: &[u8]| codes.iter().rev().map(|&code| complement(code)).collect();
    let variant = Variant {
        start: codes.len() as u64 - variant.end(),
        reference: turn(&variant.reference),
        alternate: turn(&variant.alternate),
    };
    let at = |position: u64| turned.get(position as usize).copied();
    let variant = variant.normalise(at);
    (turned, variant)
}

#[test]
fn the_reverse_strand_scores_as_the_reverse_complement_does() {
    let codes = bases(LENGTH, 6);
    for (name, scorer) in CAUSAL.iter() {
        for variant in changes(&codes) {
            let (turned, own) = mirrored(&codes, &variant);
            let settings = settings(Mode::Stream, 33, 100);
            let (mut on_reverse, _) =
                run(scorer, &settings, &codes, true, std::slice::from_ref(&own));
            let (alone, _) = run(scorer, &settings, &turned, false, &[own]);
            let window = &alone[0].window;
            let length = LENGTH as u64;
            assert_eq!(
                on_reverse[0].window,
                length - window.end..length - window.start
            );
            on_reverse[0].window = window.clone();
            assert_eq!(
                format!("{:?}", on_reverse[0]),
                format!("{:?}", alone[0]),
                "{name}: {variant:?}"
            );
        }
    }
}

/// Mean log-likelihoods over windows of equal length, as published protocols have them.
#[test]
fn windows_score_as_two_windows_read_alone() {
    let codes = bases(LENGTH, 7);
    let window = Window { size: 60, left: 30 };
    for (name, scorer) in CAUSAL.iter() {
        for variant in [
            change(&codes, 100, 1, &[(codes[100] + 1) % 4]),
            change(&codes, 10, 1, &[(codes[10] + 1) % 4]),
            change(&codes, 290, 1, &[(codes[290] + 1) % 4]),
            change(&codes, 150, 4, &[]),
            change(&codes, 150, 0, &[0, 1, 1]),
        ] {
            let (found, _) = run(
                scorer,
                &settings(Mode::Window(window), 1, 100),
                &codes,
                false,
                std::slice::from_ref(&variant),
            );
            let site = variant.start as usize;
            let (from, to) = (site.saturating_sub(30), LENGTH.min(site + 30));
            let haplotype = &mutated(&codes, &variant)[from..];
            let haplotype = &haplotype[..haplotype.len().min(site - from + 30)];
            let sum = |codes: &[u8]| plain(scorer, codes).logp[1..].iter().sum::<f64>();
            let expected = [sum(&codes[from..to]), sum(haplotype)];
            close(found[0].ll_ref, expected[0], 1e-4, name);
            close(found[0].ll_alt, expected[1], 1e-4, name);
            let mean =
                expected[1] / (haplotype.len() - 1) as f64 - expected[0] / (to - from - 1) as f64;
            close(found[0].values[1], mean, 1e-5, name);
        }
    }
}

#[test]
fn a_bidirectional_model_is_asked_for_a_masked_base() {
    let codes = bases(200, 8);
    let window = Window { size: 64, left: 32 };
    for name in ["caduceus-ph", "caduceus-ps"] {
        let scorer = load(&folder(name));
        let variant = change(&codes, 100, 1, &[(codes[100] + 1) % 4]);
        let settings = settings(Mode::Window(window), 1, 1000);
        let (found, _) = run(
            &scorer,
            &settings,
            &codes,
            false,
            std::slice::from_ref(&variant),
        );
        let token = |&code: &u8| scorer.engine.facts.vocabulary.token(code);
        let mut tokens: Vec<u32> = codes[68..132].iter().map(token).collect();
        tokens[32] = scorer.engine.facts.vocabulary.mask.unwrap();
        let segment = Segment {
            lane: 0,
            len: 64,
            starts: true,
            ends: true,
        };
        let mut state = scorer.engine.model.start(1).unwrap();
        let hidden = step(&scorer.engine.model, &tokens, &[segment], &mut state);
        let width = hidden.len() / 64;
        let tensor =
            crocuta::ops::Tensor::from_slice(&hidden, (64, width), &crocuta::ops::Device::Cpu);
        let logits = scorer
            .head
            .forward(&tensor.unwrap())
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let logit = |codes: &[u8]| f64::from(logits[32][token(&codes[0]) as usize]);
        let llr = logit(&variant.alternate) - logit(&variant.reference);
        close(found[0].values[2], llr, 1e-5, name);
        assert!(found[0].ll_ref.is_nan() && found[0].values[0].is_nan());
        assert!(found[0].values[6] > 0.0, "the vectors differ");
    }
}
