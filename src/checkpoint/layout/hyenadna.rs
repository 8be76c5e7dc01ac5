//! HyenaDNA in the layout of LongSafari/hyenadna-*-hf: positions, times and decay rates are
//! stored; the three sines share one frequency; the head is stored and equals the embedding.

use super::{Fill, LAYERS, Plan, WIDTH, ramp, vocabulary};
use crate::checkpoint::Config;
use crate::error::Result;
use std::f64::consts::PI;

/// Adds the model's tensors.
pub fn plan(config: &Config, plan: &mut Plan) -> Result<()> {
    let sizes = Sizes::read(config)?;
    let (width, deviation) = (sizes.width, sizes.deviation);
    let embedding = "hyena.backbone.embeddings.word_embeddings.weight";
    plan.add(embedding, &[sizes.rows, width], Fill::Normal(deviation));
    for layer in 0..sizes.layers {
        sizes.layer(plan, &format!("hyena.backbone.layers.{layer}"));
    }
    layer_norm(plan, "hyena.backbone.ln_f", width);
    plan.add(
        "lm_head.weight",
        &[sizes.rows, width],
        Fill::Normal(deviation),
    );
    if let Some(head) = plan.0.last_mut() {
        head.like = Some(embedding.to_string());
    }
    Ok(())
}

struct Sizes {
    width: usize,
    inner: usize,
    layers: usize,
    length: usize,
    /// Of a position, which the filter network reads.
    features: usize,
    /// The filter network's width.
    hidden: usize,
    /// Its hidden layers after the first one.
    depth: usize,
    taps: usize,
    frequency: f64,
    /// Rows of the embedding.
    rows: usize,
    deviation: f64,
}

impl Sizes {
    fn read(config: &Config) -> Result<Self> {
        let width = config.size("d_model", WIDTH, None)?;
        if config.text("filter", Some("implicit"))? != "implicit" {
            let error = config.error("filter", "only implicit filters can be made anew");
            return Err(error.todo("distil a model with models convert --distil"));
        }
        let features = config.size("emb_dim", 3..=1023, None)?;
        if features.is_multiple_of(2) {
            let what = "must be odd: a position, and a sine and a cosine for each frequency";
            return Err(config.error("emb_dim", what));
        }
        Ok(Self {
            width,
            inner: config.size("d_inner", WIDTH, Some(4 * width))?,
            layers: config.size("n_layer", LAYERS, None)?,
            length: config.size("max_seq_len", 2..=1 << 31, None)?,
            features,
            hidden: config.size("filter_order", WIDTH, None)?,
            depth: config.size("num_inner_mlps", 0..=256, Some(2))?,
            taps: config.size("short_filter_order", 1..=1024, Some(3))?,
            frequency: config.number("activation_freq", Some(1.0))?,
            rows: vocabulary(config, 8)?,
            deviation: config.number("initializer_range", Some(0.02))?,
        })
    }

    fn layer(&self, plan: &mut Plan, at: &str) {
        let (width, inner) = (self.width, self.inner);
        // Layers that write to the residual stream: as GPT-2, two for each block.
        let residual = self.deviation / (2.0 * self.layers as f64).sqrt();
        let linear = |plan: &mut Plan, name: &str, shape: [usize; 2], deviation: f64| {
            plan.linear(format!("{at}.{name}"), shape, Fill::Normal(deviation), true);
        };
        layer_norm(plan, format!("{at}.norm1"), width);
        layer_norm(plan, format!("{at}.norm2"), width);
        linear(plan, "mlp.fc1", [inner, width], self.deviation);
        linear(plan, "mlp.fc2", [width, inner], residual);
        linear(plan, "mixer.in_proj", [3 * width, width], self.deviation);
        linear(plan, "mixer.out_proj", [width, width], residual);
        let filter = format!("{at}.mixer.short_filter");
        plan.torch(filter, &[3 * width, 1, self.taps]);
        self.filter(plan, &format!("{at}.mixer.filter_fn"));
    }

    /// The implicit filter's network, and what it reads.
    fn filter(&self, plan: &mut Plan, at: &str) {
        let (width, length, features, hidden) =
            (self.width, self.length, self.features, self.hidden);
        let mut add = |name: &str, shape: &[usize], fill: Fill| {
            plan.add(format!("{at}.{name}"), shape, fill);
        };
        let (slow, fast) = (0.01f64.ln() / 1.5, 0.01f64.ln() / 0.3);
        add("bias", &[width], Fill::Normal(1.0));
        add(
            "pos_emb.z",
            &[1, length, features],
            positions(length, features / 2),
        );
        add("pos_emb.t", &[1, length, 1], ramp(0.0, 1.0, length));
        add("modulation.deltas", &[1, 1, width], ramp(slow, fast, width));
        let at = format!("{at}.implicit_filter");
        plan.torch(format!("{at}.0"), &[hidden, features]);
        plan.add(
            format!("{at}.1.freq"),
            &[1, hidden],
            Fill::constant(self.frequency),
        );
        // Linear layers and sines take turns.
        for layer in 1..=self.depth {
            plan.torch(format!("{at}.{}", 2 * layer), &[hidden, hidden]);
        }
        let last = format!("{at}.{}.weight", 2 * (self.depth + 1));
        plan.add(last, &[width, hidden], Fill::torch(hidden));
    }
}

/// The filter's input at position j: t = j/(l-1), then cos(f w) and -sin(f w) for each of the
/// frequencies f from 1e-4 to bands-1, where w = 2πj/l. (The two lengths differ by one, as
/// published.)
fn positions(length: usize, bands: usize) -> Fill {
    Fill::Each(Box::new(move |index| {
        let (position, feature) = (index / (2 * bands + 1), index % (2 * bands + 1));
        if feature == 0 {
            return position as f64 / (length - 1) as f64;
        }
        let band = (feature - 1) % bands;
        let step = (bands as f64 - 1.0 - 1e-4) / (bands.max(2) - 1) as f64;
        let frequency = 1e-4 + step * band as f64;
        let angle = frequency * 2.0 * PI * position as f64 / length as f64;
        if feature <= bands {
            angle.cos()
        } else {
            -angle.sin()
        }
    }))
}

fn layer_norm(plan: &mut Plan, name: impl std::fmt::Display, width: usize) {
    plan.add(format!("{name}.weight"), &[width], Fill::constant(1.0));
    plan.add(format!("{name}.bias"), &[width], Fill::constant(0.0));
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::{Config, layout, preset};

    #[test]
    fn presets_have_the_sizes_of_the_published_files() {
        for (name, bytes) in [
            ("hyenadna-tiny-1k", 1_802_848),
            ("hyenadna-tiny-1k-d256", 6_632_032),
            ("hyenadna-tiny-16k", 2_540_128),
            ("hyenadna-small-32k", 16_276_672),
            ("hyenadna-medium-160k", 56_947_072),
            ("hyenadna-medium-450k", 112_627_072),
            ("hyenadna-large-1m", 218_227_072),
        ] {
            let plan = layout::plan(&Config::new(name, preset(name).unwrap())).unwrap();
            let sum = plan
                .iter()
                .map(|planned| planned.entry.bytes())
                .sum::<usize>();
            assert_eq!(sum, bytes, "{name}");
        }
    }
}
