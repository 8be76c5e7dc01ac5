//! Published Transformers: tokens, hidden vectors and probabilities of bases equal those of
//! transformers 5.24 on small random models, which `pretrained.py` made.

use super::{difference, expected, folder};
use candle_core::{DType, Tensor};
use crocuta::checkpoint::{Checkpoint, Words};
use crocuta::encoder::{Encoder, Facts, Layer, Model, Segment};
use crocuta::head::LanguageModel;

fn of(name: &str) -> (Checkpoint, Model, Facts) {
    let checkpoint = Checkpoint::open(&folder(name)).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    (checkpoint, model, facts)
}

fn numbers(tensor: &Tensor) -> Vec<u32> {
    tensor.to_dtype(DType::U32).unwrap().to_vec1().unwrap()
}

/// Both layers of the sequences of these letters, which share a step.
fn run(model: &Model, facts: &Facts, sequences: &[&[u8]]) -> Vec<Tensor> {
    let code = |letter: &u8| {
        b"ACGT"
            .iter()
            .position(|known| known == letter)
            .unwrap_or(4)
    };
    let token = |letter: &u8| facts.vocabulary.bases[code(letter)];
    let tokens: Vec<u32> = sequences.concat().iter().map(token).collect();
    let segment = |letters: &&[u8]| Segment {
        lane: 0,
        len: letters.len(),
        starts: true,
        ends: true,
    };
    let segments: Vec<_> = sequences.iter().map(segment).collect();
    let tokens = Tensor::new(tokens, &candle_core::Device::Cpu).unwrap();
    let mut state = model.start(1).unwrap();
    let layers = facts.default_layers();
    let found = model.forward_layers(&tokens.into(), &segments, &mut state, &layers);
    let found = found.unwrap().into_iter();
    found.map(|layer| layer.stored().unwrap()).collect()
}

fn equals_transformers(class: &str) {
    let name = format!("pretrained/{class}");
    let (checkpoint, model, facts) = of(&name);
    LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    assert_eq!(checkpoint.unused(), Vec::<String>::new());
    assert_eq!(facts.default_layers(), [Layer::Norm, Layer::Bases]);
    let expected = expected(&name);
    let letters: Vec<u8> = expected["sequence"].to_vec1().unwrap();
    let words = model.pretrained().unwrap().words();
    let tokens = words.tokens(&letters).unwrap();
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(ids, numbers(&expected["ids"]), "{class}");
    let places = Words::of_bases(&tokens, letters.len()).unwrap();
    let places: Vec<u32> = places.iter().map(|&place| place as u32).collect();
    assert_eq!(places, numbers(&expected["of_bases"]), "{class}");

    // Beside another sequence.
    let other = &letters[..21];
    let found = run(&model, &facts, &[other, &letters]);
    let ours = |layer: &Tensor| layer.narrow(0, other.len(), letters.len()).unwrap();
    let hidden = expected["hidden"].index_select(&expected["of_bases"], 0);
    let error = difference(&ours(&found[0]), &hidden.unwrap());
    assert!(error < 1e-5, "{class}: hidden vectors: {error}");
    let bases = ours(&found[1]).narrow(1, 0, 5).unwrap();
    let error = difference(&bases, &expected["bases"]);
    assert!(error < 1e-5, "{class}: bases: {error}");
}

#[test]
fn llama_and_mistral_equal_transformers() {
    equals_transformers("llama");
    equals_transformers("mistral");
}

#[test]
fn mixtral_equals_transformers() {
    equals_transformers("mixtral");
}

#[test]
fn qwen_equals_transformers() {
    equals_transformers("qwen2");
    equals_transformers("qwen3");
}

#[test]
fn bert_equals_transformers_and_mosaic_bert_its_paper() {
    equals_transformers("bert");
    equals_transformers("mosaic-bert");
}

/// The sum over a sequence of the logarithms of its bases' probabilities is that of its tokens'.
#[test]
fn bases_have_the_likelihood_of_their_tokens() {
    for class in ["llama", "mistral"] {
        let name = format!("pretrained/{class}");
        let (_, model, facts) = of(&name);
        // Whole k-mers, no N.
        let letters = b"ACGTTGCATTACGATTACATGCCGTAAC";
        let letters = &letters[..27];
        let found = run(&model, &facts, &[letters]);
        let rows: Vec<Vec<f32>> = found[1].to_vec2().unwrap();
        let code = |letter: u8| b"ACGT".iter().position(|known| *known == letter).unwrap();
        let after_first = rows.iter().zip(&letters[1..]);
        let bases: f64 = after_first.map(|(row, &b)| f64::from(row[code(b)])).sum();

        // The tokens' own, from the hidden vector before each: what the head says.
        let pretrained = model.pretrained().unwrap();
        let tokens = pretrained.words().tokens(letters).unwrap();
        let ids = tokens.iter().map(|token| token.id).collect();
        let logits: Vec<Vec<f32>> = pretrained.token_logits(ids).unwrap().to_vec2().unwrap();
        let log = |row: &[f32], id: u32| {
            let all: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            f64::from(row[id as usize]) - all.ln()
        };
        let covering = 1..tokens.len() - 1;
        let mut whole: f64 = covering
            .clone()
            .map(|i| log(&logits[i - 1], tokens[i].id))
            .sum();
        // The first base is not asked for, nor whether the last token ends where it does.
        let words = pretrained.words();
        let mass = |row: &[f32], prefix: &[u8]| -> f64 {
            let texts = words.texts().filter(|(_, text)| text.starts_with(prefix));
            texts.map(|(id, _)| log(row, id).exp()).sum()
        };
        whole -= mass(&logits[0], &letters[..1]).ln();
        let last = covering.end - 1;
        let text = words.text(tokens[last].id).unwrap();
        let row = &logits[last - 1];
        whole -= log(row, tokens[last].id) - mass(row, text).ln();
        assert!((bases - whole).abs() < 1e-3, "{class}: {bases} {whole}");
    }
}
