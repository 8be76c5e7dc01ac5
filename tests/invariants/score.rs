//! What variant scores promise: a fork says what the whole mutated chromosome would, for less.

use crate::{folder, step};
use crocuta::checkpoint::{Checkpoint, Config, create};
use crocuta::encoder::{Encoder, Layer, Model, Segment};
use crocuta::head::LanguageModel;
use crocuta::ops::Device;
use crocuta::score::{self, Job, Mode, Reference, Settings, Window};
use crocuta::sequence::allele::Variant;
use crocuta::sequence::{LETTERS, complement, reverse_complement};
use crocuta::stream::Engine;
use crocuta::table::{SCORES, Scores};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::LazyLock;

/// Longer than the HyenaDNA golden's filter of 130 taps.
const LENGTH: usize = 300;

/// A model and its head.
struct Scorer {
    engine: Engine,
    head: LanguageModel,
}

static CAUSAL: LazyLock<Vec<(&str, Scorer)>> = LazyLock::new(|| {
    let published = ["hyenadna", "mamba1", "mamba2", "evo1", "evo2"];
    let published = published.iter().filter(|name| folder(name).exists());
    let mut scorers: Vec<_> = published.map(|name| (*name, load(&folder(name)))).collect();
    for (name, config) in [
        (
            "s4d",
            json!({"model_type": "s4d", "d_model": 24, "n_layer": 2, "vocab_size": 16,
                "d_state": 8, "initializer_range": 0.5}),
        ),
        ("transformer", transformer(&json!({"attention": "causal"}))),
        (
            "transformer with a window",
            transformer(&json!({"attention": "sliding", "window": 30})),
        ),
        (
            "performer",
            transformer(&json!({"attention": "performer", "features": 20})),
        ),
    ] {
        scorers.push((name, made(&config)));
    }
    scorers
});

fn transformer(attention: &Value) -> Value {
    let mut config = json!({"model_type": "crocuta-transformer", "hidden_size": 24,
        "num_layers": 2, "num_heads": 3, "initializer_range": 0.5});
    let changes = attention.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(changes);
    config
}

fn load(folder: &Path) -> Scorer {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    let engine = Engine {
        model,
        facts,
        device: Device::Cpu,
        layers: vec![Layer::Norm],
    };
    Scorer { engine, head }
}

fn made(config: &Value) -> Scorer {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("model");
    let config = Config::parse("config.json", &config.to_string()).unwrap();
    create(&config, 7, &target, u64::MAX).unwrap();
    load(&target)
}

fn settings(mode: Mode, after: usize, chunk: usize) -> Settings {
    Settings {
        mode,
        after,
        context: None,
        around: 9,
        longest: 50,
        both_strands: false,
        embeddings: None,
        chunk,
        scratch: std::env::temp_dir(),
    }
}

fn bases(length: usize, seed: usize) -> Vec<u8> {
    let base = |i: usize| ((i * i + seed * i * 3 + i / 3 + i / 7) % 4) as u8;
    (0..length).map(base).collect()
}

fn change(codes: &[u8], start: usize, removed: usize, alternate: &[u8]) -> Variant {
    Variant {
        start: start as u64,
        reference: codes[start..start + removed].to_vec(),
        alternate: alternate.to_vec(),
    }
}

/// All kinds of changes, at both ends and between, several within one suffix.
fn changes(codes: &[u8]) -> Vec<Variant> {
    let other = |i: usize| (codes[i] + 1) % 4;
    let last = codes.len() - 1;
    let mut changes = vec![
        change(codes, 0, 1, &[other(0)]),
        change(codes, 0, 2, &[]),
        change(codes, 0, 0, &[1, 2, 3]),
        change(codes, 1, 1, &[other(1)]),
        change(codes, 40, 1, &[other(40)]),
        change(codes, 40, 1, &[(codes[40] + 2) % 4]),
        change(codes, 41, 3, &[other(41), other(42), other(43)]),
        change(codes, 43, 30, &[]),
        change(codes, 44, 0, &bases(37, 9)),
        change(codes, 47, 2, &[other(47), 0, 3, 1]),
        change(codes, 129, 1, &[other(129)]),
        change(codes, 131, 1, &[]),
        change(codes, 257, 4, &[2]),
        change(codes, last - 1, 2, &[]),
        change(codes, last, 1, &[other(last)]),
        change(codes, last + 1, 0, &[0, 1]),
    ];
    changes.sort_by_key(|variant| variant.start);
    changes
}

/// The scores of variants in order, and how many bases went through the encoder.
fn run(
    scorer: &Scorer,
    settings: &Settings,
    codes: &[u8],
    reverse: bool,
    variants: &[Variant],
) -> (Vec<Scores>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.fa");
    let text: String = codes
        .iter()
        .map(|&code| LETTERS[usize::from(code)])
        .collect();
    std::fs::write(&path, format!(">a\n{text}\n")).unwrap();
    let reference = Reference::open(&path, false).unwrap();
    let mut found = vec![None; variants.len()];
    let mut work = 0;
    let scratch = directory.path().to_path_buf();
    let settings = Settings {
        scratch: scratch.clone(),
        ..settings.clone()
    };
    reference
        .each(&[vec![0]], &scratch, |contig, _| {
            let jobs = variants.iter().enumerate().map(|(i, variant)| {
                Ok(Job {
                    variant: variant.clone(),
                    entries: vec![i],
                })
            });
            let mut watch = |bases: u64, _: &str| {
                work += bases;
                Ok(())
            };
            let scorer = score::Scorer {
                engine: &scorer.engine,
                head: &scorer.head,
            };
            score::score(
                scorer,
                &settings,
                &contig.strand(reverse),
                jobs,
                &mut watch,
                &mut |job, scores| {
                    for i in job.entries {
                        found[i] = Some(scores.clone());
                    }
                    Ok(())
                },
            )
        })
        .unwrap();
    (found.into_iter().map(Option::unwrap).collect(), work)
}

/// A whole sequence's log-probabilities over the tokens, those of the four bases, and vectors:
/// row i is of base i.
struct Plain {
    logp: Vec<f64>,
    four: Vec<[f64; 4]>,
    hidden: Vec<Vec<f32>>,
}

fn plain(scorer: &Scorer, codes: &[u8]) -> Plain {
    let token = |&code: &u8| scorer.engine.facts.vocabulary.token(code);
    let tokens: Vec<u32> = codes.iter().map(token).collect();
    let segment = Segment {
        lane: 0,
        len: tokens.len(),
        starts: true,
        ends: true,
    };
    let mut state = scorer.engine.model.start(1).unwrap();
    let hidden = step(&scorer.engine.model, &tokens, &[segment], &mut state);
    let width = hidden.len() / tokens.len();
    let tensor = crocuta::ops::Tensor::from_slice(
        &hidden,
        (tokens.len(), width),
        &crocuta::ops::Device::Cpu,
    );
    let logits = scorer
        .head
        .forward(&tensor.unwrap())
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let (mut logp, mut four) = (vec![f64::NAN], vec![[f64::NAN; 4]]);
    for (row, &next) in logits.iter().zip(&tokens[1..]) {
        let exp = |token: u32| f64::from(row[token as usize]).exp();
        let all: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        logp.push((exp(next) / all).ln());
        let of = [0, 1, 2, 3].map(|code: u8| exp(scorer.engine.facts.vocabulary.token(code)));
        four.push(of.map(|p| p / of.iter().sum::<f64>()));
    }
    Plain {
        logp,
        four,
        hidden: hidden.chunks(width).map(<[f32]>::to_vec).collect(),
    }
}

fn mutated(codes: &[u8], variant: &Variant) -> Vec<u8> {
    let (start, end) = (variant.start as usize, variant.end() as usize);
    [&codes[..start], &variant.alternate, &codes[end..]].concat()
}

fn close(found: f64, expected: f64, bound: f64, what: &str) {
    // A model of random weights may give a base 25 nats: float32 has less than 1e-4 of thousands.
    let bound = bound * (expected.abs() / 1000.0).max(1.0);
    let same = found.is_nan() && expected.is_nan() || (found - expected).abs() <= bound;
    assert!(same, "{what}: {found}, expected {expected}");
}

/// Against both whole chromosomes, each run from its start in one call.
fn check(
    scorer: &Scorer,
    after: usize,
    codes: &[u8],
    variant: &Variant,
    scores: &Scores,
    name: &str,
) {
    let what = |of: &str| format!("{name}, after {after}, {variant:?}: {of}");
    let (start, end) = (variant.start as usize, variant.end() as usize);
    let to = codes.len().min(end + after);
    let own = variant.alternate.len();
    let (reference, alternate) = (
        plain(scorer, codes),
        plain(scorer, &mutated(codes, variant)),
    );
    let alt_to = start + own + to - end;
    let sum = |logp: &[f64]| -> f64 { logp.iter().filter(|x| !x.is_nan()).sum() };
    let (ll_ref, ll_alt) = (
        sum(&reference.logp[start..to]),
        sum(&alternate.logp[start..alt_to]),
    );
    close(scores.ll_ref, ll_ref, 1e-4, &what("ll_ref"));
    close(scores.ll_alt, ll_alt, 1e-4, &what("ll_alt"));
    assert_eq!(scores.window, start as u64..to as u64, "{}", what("window"));
    let first = usize::from(start == 0);
    assert_eq!(
        scores.n_ref as usize,
        (to - start).saturating_sub(first),
        "{}",
        what("n_ref")
    );
    assert_eq!(
        scores.n_alt as usize,
        (alt_to - start).saturating_sub(first),
        "{}",
        what("n_alt")
    );
    let value =
        |name: &str| scores.values[SCORES.iter().position(|known| known.name == name).unwrap()];
    close(
        value("delta_ll"),
        ll_alt - ll_ref,
        2e-4 * (ll_ref.abs() / 1000.0).max(1.0),
        &what("delta_ll"),
    );
    if variant.reference.len() == own && start > 0 {
        let log = |plain: &Plain, codes: &[u8]| -> f64 {
            let each = codes.iter().zip(&plain.four[start..]);
            each.map(|(&code, four)| four[usize::from(code)].ln()).sum()
        };
        let llr = log(&alternate, &variant.alternate) - log(&reference, &variant.reference);
        close(value("llr"), llr, 2e-4, &what("llr"));
    }
    let mut divergences = Vec::new();
    for i in 0..to - end {
        let (p, q) = (reference.four[end + i], alternate.four[start + own + i]);
        let term = |p: f64, q: f64| p * (2.0 * p / (p + q)).ln();
        let jsd: f64 = (0..4)
            .map(|b| (term(p[b], q[b]) + term(q[b], p[b])) / 2.0)
            .sum();
        divergences.push(jsd);
    }
    divergences.retain(|jsd| !jsd.is_nan());
    if !divergences.is_empty() {
        let largest = divergences.iter().copied().fold(0.0, f64::max);
        let mean = divergences.iter().sum::<f64>() / divergences.len() as f64;
        close(value("jsd_max"), largest, 1e-5, &what("jsd_max"));
        close(value("jsd_mean"), mean, 1e-5, &what("jsd_mean"));
    }
    if start > 0 {
        let (a, b) = (
            &reference.hidden[end - 1],
            &alternate.hidden[start + own - 1],
        );
        let l2 = a
            .iter()
            .zip(b)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            .sqrt();
        let scale = a.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        close(value("l2_dist"), l2, 1e-4 * scale, &what("l2_dist"));
    }
}

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
fn a_model_that_looks_both_ways_is_asked_for_a_hidden_base() {
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
