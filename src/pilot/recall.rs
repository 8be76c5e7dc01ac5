//! Which candidates remember: random bases of which the second half is a copy of the first, so that
//! each base of it was read a known distance before. Nothing but memory predicts them.

use super::kept::{Found, Kept};
use super::{Entrant, Pilot, Tell, catalogue, is_finding};
use crate::encoder::Encoder;
use crate::error::{Error, Kind, Result};
use crate::ops::{Tensor, cross_entropy};
use crate::run::units::number;
use crate::sequence::Segment;
use crate::stream::{self, RunIdentity};
use crate::table::{Experiment, Origin, PilotRow};
use crate::train::{
    self, Evaluation, Loss, Network, Objective, Plan, Ratio, Saving, Schedule, Trained, Trainee,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use std::f64::consts::LN_2;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bases of a step, or one sequence if that is longer.
const STEP: usize = 4096;
/// Sequences that are asked for on the way, and at the end.
const ASKED: [usize; 2] = [4, 16];
/// The learning rate.
const RATE: f64 = 3e-3;
/// Steps of training, at least and at most, unless they are asked for: where there is no time for
/// as many, the longest distance is left out, and then the next.
const STEPS: [u64; 2] = [60, 3000];
/// Evaluations of a run.
const EVALUATIONS: u64 = 4;

/// Copies at a distance, drawn anew for each step.
pub struct Copies {
    distance: usize,
    batch: usize,
    seed: u64,
    /// Steps that were drawn.
    steps: u64,
    drawn: Vec<u8>,
}

impl Copies {
    /// Whose random bases follow from the seed.
    pub fn new(distance: usize, seed: u64) -> Self {
        Self {
            distance,
            batch: (STEP / (2 * distance)).max(1),
            seed,
            steps: 0,
            drawn: Vec::new(),
        }
    }

    /// So many sequences, end to end.
    fn sequences(distance: usize, count: usize, rng: &mut StdRng) -> Vec<u8> {
        let sequence = |_| {
            let first: Vec<u8> = (0..distance).map(|_| rng.random_range(0..4)).collect();
            [first.clone(), first].concat()
        };
        (0..count).flat_map(sequence).collect()
    }

    /// (T, V): what the model says of the base after each.
    fn logits(&self, network: &Network, codes: &[u8]) -> Result<Tensor> {
        let vocabulary = &network.facts.vocabulary;
        let tokens: Vec<u32> = codes.iter().map(|code| vocabulary.token(*code)).collect();
        let count = tokens.len();
        let tokens = Tensor::from_vec(tokens, count, &network.device)?;
        let len = 2 * self.distance;
        let segment = Segment {
            lane: 0,
            len,
            starts: true,
            ends: true,
        };
        let mut state = network.model.start(1)?;
        let segments = vec![segment; count / len];
        let hidden = network.model.forward(&tokens, &segments, &mut state)?;
        network.language_model()?.forward(&hidden)
    }

    /// Whether the base after the one at this place is one of a copy.
    fn counts(&self, place: usize) -> bool {
        let place = place % (2 * self.distance);
        (self.distance - 1..2 * self.distance - 1).contains(&place)
    }
}

impl Objective for Copies {
    fn draw(&mut self, _parts: usize) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(self.seed ^ self.steps.rotate_left(32));
        self.drawn = Self::sequences(self.distance, self.batch, &mut rng);
        self.steps += 1;
        Ok(())
    }

    fn loss(&self, network: &Network, _part: usize) -> Result<Loss> {
        let output = self.logits(network, &self.drawn)?;
        let vocabulary = &network.facts.vocabulary;
        let next = self.drawn.iter().skip(1).chain([&0]);
        let targets: Vec<u32> = next.map(|code| vocabulary.token(*code)).collect();
        let counts = (0..targets.len()).map(|place| f32::from(u8::from(self.counts(place))));
        let counts: Vec<f32> = counts.collect();
        let (sum, seed) = cross_entropy(&output, &targets, &counts)?;
        Ok(Loss {
            output,
            seed,
            sum: sum / LN_2,
            count: (self.batch * self.distance) as u64,
            bases: self.drawn.len() as u64,
        })
    }

    fn evaluate(&self, network: &Network, whole: bool) -> Result<Option<Evaluation>> {
        let mut rng = StdRng::seed_from_u64(u64::MAX);
        let vocabulary = &network.facts.vocabulary;
        let bases: Vec<usize> = (0..4).map(|code| vocabulary.token(code) as usize).collect();
        let mut right: Vec<Ratio> = Vec::new();
        let asked = if whole { ASKED[1] } else { ASKED[0] };
        for _ in 0..asked {
            let codes = Self::sequences(self.distance, 1, &mut rng);
            let logits = self.logits(network, &codes)?.to_vec2::<f32>()?;
            let mut found = Ratio::default();
            for (place, row) in logits.iter().enumerate().filter(|(i, _)| self.counts(*i)) {
                let said = |a: &usize, b: &usize| row[bases[*a]].total_cmp(&row[bases[*b]]);
                let said = (0..4).max_by(said).unwrap_or_default();
                found.above += f64::from(u8::from(said == usize::from(codes[place + 1])));
                found.below += 1.0;
            }
            right.push(found);
        }
        let recall = train::ratio(&right.iter().collect::<Vec<_>>()).unwrap_or_default();
        let mut metrics = Map::new();
        metrics.insert("recall".into(), json!(recall));
        let interval = train::interval(&right, train::ratio);
        metrics.insert("recall_ci95".into(), json!(interval));
        Ok(Some(Evaluation::by_loss(1.0 - recall, metrics)))
    }

    fn test(&self, _network: &Network) -> Result<Option<Evaluation>> {
        Ok(None)
    }

    fn save(&self) -> Result<Vec<u8>> {
        Ok(self.steps.to_le_bytes().to_vec())
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        let steps = saved.try_into();
        let steps = steps.map_err(|_| Error::new(Kind::Internal, "not a number of steps"))?;
        self.steps = u64::from_le_bytes(steps);
        Ok(())
    }
}

/// Trains all candidates on copies at each distance, by equal steps, in about so many seconds.
///
/// # Errors
/// Those of the models, but for candidates that cannot be trained; Io.
pub fn measure(pilot: &Pilot, kept: &mut Kept, seconds: f64, tell: Tell) -> Result<()> {
    let begun = kept.clock();
    let mut distances = pilot.request.distances.clone();
    distances.sort_unstable();
    distances.dedup();
    let asked = pilot.request.steps;
    let mut costs: Vec<Cost> = Vec::new();
    let left = |kept: &Kept| seconds - (kept.clock() - begun);
    for distance in distances {
        // A longer distance takes as long as the one before it, or longer.
        let last = costs.last().map_or(0, |cost| cost.distance);
        let as_last = costs.iter().filter(|cost| cost.distance == last);
        let expected =
            all(&costs, STEPS[0]) + as_last.map(|cost| cost.seconds(STEPS[0])).sum::<f64>();
        if asked.is_none() && expected > left(kept) {
            break;
        }
        for entrant in &pilot.entrants {
            let name = &entrant.candidate.name;
            tell(
                &format!("recall: timing {name}, {distance} bases"),
                kept.clock(),
            );
            let key = format!("recall/{name}/{distance}/seconds");
            let distance = distance as usize;
            let found = kept.once(&key, || time(pilot, entrant, distance))?;
            costs.extend(found.rows.first().map(|row| Cost {
                entrant,
                distance,
                step: row.value,
            }));
        }
    }
    let trainable = !costs.is_empty();
    let planned = asked.unwrap_or_else(|| {
        while !costs.is_empty() && all(&costs, STEPS[0]) > left(kept) {
            let longest = costs.iter().map(|cost| cost.distance).max();
            costs.retain(|cost| Some(cost.distance) < longest);
        }
        let fixed = all(&costs, 0);
        let step = all(&costs, 1) - fixed;
        (((left(kept) - fixed) / step.max(1e-9)) as u64).clamp(STEPS[0], STEPS[1])
    });
    // A repeated command goes on with as many, and as far.
    let farthest = costs.iter().map(|cost| cost.distance).max().unwrap_or(0);
    let found = kept.once("recall/steps", || {
        let row = PilotRow::new(Experiment::Training, "all", "recall_steps", planned as f64);
        let row = row.at(farthest as u64).unit("steps");
        Ok(Found {
            note: left_out(&pilot.request.distances, farthest).filter(|_| trainable),
            ..Found::rows(vec![row.origin(Origin::Counted)])
        })
    })?;
    let row = found.rows.first();
    let (steps, farthest) = row.map_or((planned, Some(farthest as i64)), |row| {
        (row.value as u64, row.at)
    });
    costs.retain(|cost| Some(cost.distance as i64) <= farthest);
    for Cost {
        entrant, distance, ..
    } in costs
    {
        let name = &entrant.candidate.name;
        tell(
            &format!("recall: {name}, {distance} bases, {steps} steps"),
            kept.clock(),
        );
        let key = format!("recall/{name}/{distance}");
        let path = kept.beside(&format!("{name}-{distance}"));
        kept.once(&key, || train(pilot, entrant, distance, steps, &path))?;
    }
    Ok(())
}

/// Which distances are left out, farther than one, and why.
fn left_out(distances: &[u32], farthest: usize) -> Option<String> {
    let mut far: Vec<u32> = distances.to_vec();
    far.retain(|distance| *distance as usize > farthest);
    far.sort_unstable();
    far.dedup();
    let far: Vec<String> = far.iter().map(|d| number(u64::from(*d))).collect();
    (!far.is_empty()).then(|| {
        let far = far.join(", ");
        format!(
            "copies {far} bases away: no time for {} steps of each candidate",
            STEPS[0]
        )
    })
}

/// What a candidate's training on copies at a distance takes.
struct Cost<'a> {
    entrant: &'a Entrant,
    distance: usize,
    /// Seconds of a step.
    step: f64,
}

impl Cost<'_> {
    /// Seconds of a run: of its steps, and of what is asked on the way and at the end, which takes a
    /// third of the time that it would in training.
    fn seconds(&self, steps: u64) -> f64 {
        let asked = (EVALUATIONS as usize + 1) * ASKED[0] + ASKED[1];
        let trained = (STEP / (2 * self.distance)).max(1);
        self.step * (steps as f64 + asked as f64 / trained as f64 / 3.0)
    }
}

fn all(costs: &[Cost], steps: u64) -> f64 {
    costs.iter().map(|cost| cost.seconds(steps)).sum()
}

/// A candidate whose filters reach over whole copies, ready to learn them.
fn trainee(pilot: &Pilot, entrant: &Entrant, distance: usize) -> Result<Trainee> {
    let candidate = &entrant.candidate;
    let length = 2 * distance as u64;
    let start = catalogue::for_length(candidate, length)?.checkpoint(pilot.request.seed)?;
    let mut trainee = Trainee::new(start, None, Trained::All, pilot.request.seed)?;
    let without = "this architecture is trained on the CPU";
    let without = (!candidate.facts.trains_on_gpu).then_some(without);
    trainee.run_on((pilot.open)(without)?.0);
    Ok(trainee)
}

/// Seconds of a step: of the second one, since the first makes what later ones keep.
fn time(pilot: &Pilot, entrant: &Entrant, distance: usize) -> Result<Found> {
    let name = &entrant.candidate.name;
    if entrant.candidate.facts.pretrained {
        let note = "not trained: a published Transformer runs as it was published";
        return Ok(Found::noted(Vec::new(), note));
    }
    let step = || {
        let mut copies = Copies::new(distance, pilot.request.seed);
        let network = trainee(pilot, entrant, distance)?.network(true)?;
        let mut seconds = 0.0;
        for _ in 0..2 {
            let begun = Instant::now();
            copies.draw(1)?;
            let loss = copies.loss(&network, 0)?;
            loss.output.backward(loss.seed)?;
            network.device.synchronize()?;
            seconds = begun.elapsed().as_secs_f64();
        }
        let row = PilotRow::new(Experiment::Recall, name, "seconds_per_step", seconds);
        Ok(row.at(distance as u64).unit("seconds"))
    };
    match step() {
        Ok(row) => Ok(Found::rows(vec![row])),
        Err(error) if is_finding(&error) => {
            Ok(Found::noted(Vec::new(), format!("not trained: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// So many steps, whose rate falls: sharp filters swing at a high one.
fn plan(steps: u64) -> Plan {
    Plan {
        schedule: Schedule {
            peak: RATE,
            warm_up: steps / 20,
            steps,
            last: 0.1,
        },
        parts: 1,
        decay: 0.0,
        clip: 1.0,
        evaluate_every: steps.div_ceil(EVALUATIONS).max(1),
        patience: None,
    }
}

/// Trains one candidate on one distance, and asks it for copies that it has not seen.
fn train(
    pilot: &Pilot,
    entrant: &Entrant,
    distance: usize,
    steps: u64,
    path: &Path,
) -> Result<Found> {
    let mut trainee = trainee(pilot, entrant, distance)?;
    let mut copies = Copies::new(distance, pilot.request.seed);
    let plan = plan(steps);
    let mut saving = Saving::open(path, RunIdentity::new(), Duration::MAX, true)?;
    let watch = &mut |_: &train::Report| stream::go_on();
    let trained = train::run(&mut trainee, &mut copies, &plan, Some(&mut saving), watch);
    saving.remove();
    let outcome = match trained {
        Err(error) if is_finding(&error) => {
            return Ok(Found::noted(Vec::new(), format!("not trained: {error}")));
        }
        other => other?,
    };
    let metrics = outcome.evaluation.map(|evaluation| evaluation.metrics);
    let metrics = metrics.unwrap_or_default();
    let value = metrics.get("recall").and_then(Value::as_f64);
    let row = |value| {
        let row = PilotRow::new(Experiment::Recall, &entrant.candidate.name, "recall", value);
        let row = row.at(distance as u64).seed(pilot.request.seed);
        row.unit("share")
            .interval(super::interval(metrics.get("recall_ci95")))
    };
    Ok(Found {
        rows: value.map(row).into_iter().collect(),
        note: None,
        weights: Some(trainee.digest()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Config;
    use crate::pilot::candidate::Candidate;
    use serde_json::json;

    /// The recall of copies at a distance after so many steps of `batch` sequences.
    fn recall(candidate: &Candidate, (distance, batch, steps): (usize, usize, u64)) -> f64 {
        let start = candidate.checkpoint(1).unwrap();
        let mut trainee = Trainee::new(start, None, Trained::All, 1).unwrap();
        let mut copies = Copies::new(distance, 1);
        copies.batch = batch;
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("x");
        let mut saving = Saving::open(&output, RunIdentity::new(), Duration::MAX, true).unwrap();
        let watch = &mut |_: &train::Report| Ok(());
        let plan = plan(steps);
        let outcome = train::run(&mut trainee, &mut copies, &plan, Some(&mut saving), watch);
        1.0 - outcome.unwrap().evaluation.unwrap().score
    }

    fn attention(changes: &Value) -> Candidate {
        let mut config = json!({"model_type": "crocuta-transformer", "hidden_size": 32,
            "inner_size": 64, "num_layers": 2, "num_heads": 2});
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        let config = Config::parse("config.json", &config.to_string()).unwrap();
        Candidate::random("x", "", config, Path::new("")).unwrap()
    }

    #[test]
    fn what_lies_within_reach_is_recalled_and_what_lies_beyond_it_is_not() {
        let size = (128, 4, 250);
        let full = recall(&attention(&json!({"attention": "causal"})), size);
        let window = json!({"attention": "sliding", "window": 64});
        let short = recall(&attention(&window), size);
        assert!(full > 0.9, "{full}");
        assert!(short < 0.3, "{short}");
    }

    #[test]
    fn hyena_of_the_catalogue_recalls_what_lies_far_away() {
        let hyena = catalogue::named("hyena", 21_000, 512).unwrap();
        let recalled = recall(&hyena, (256, 2, 600));
        assert!(recalled > 0.9, "{recalled}");
    }

    #[test]
    fn copies_are_copies_and_only_their_bases_count() {
        let mut copies = Copies::new(5, 1);
        copies.draw(1).unwrap();
        let first = copies.drawn.clone();
        assert!(
            first
                .chunks(10)
                .all(|sequence| sequence[..5] == sequence[5..])
        );
        assert!(first.iter().any(|code| *code != first[0]));
        let counted: Vec<usize> = (0..20).filter(|i| copies.counts(*i)).collect();
        assert_eq!(counted, [4, 5, 6, 7, 8, 14, 15, 16, 17, 18]);
        let saved = copies.save().unwrap();
        copies.draw(1).unwrap();
        let second = copies.drawn.clone();
        assert_ne!(first, second);
        let mut again = Copies::new(5, 1);
        again.restore(&saved).unwrap();
        again.draw(1).unwrap();
        assert_eq!(again.drawn, second);
    }
}
