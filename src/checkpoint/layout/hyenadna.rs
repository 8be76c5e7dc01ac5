//! HyenaDNA in the layout of LongSafari/hyenadna-*-hf: positions, times and decay rates are
//! stored; the three sines share one frequency; the head is stored and equals the embedding.

use super::{Fill, LAYERS, Plan, WIDTH, ramp, vocabulary};
use crate::checkpoint::Config;
use crate::error::Result;
use std::f64::consts::PI;

/// Adds the model's tensors.
pub fn plan(config: &Config, plan: &mut Plan) -> Result<()> {
    let width = config.size("d_model", WIDTH, None)?;
    let inner = config.size("d_inner", WIDTH, Some(4 * width))?;
    let layers = config.size("n_layer", LAYERS, None)?;
    let length = config.size("max_seq_len", 2..=1 << 31, None)?;
    let features = config.size("emb_dim", 3..=1023, None)?;
    let bands = features / 2;
    if features.is_multiple_of(2) {
        let what = "must be odd: a position, and a sine and a cosine for each frequency";
        return Err(config.error("emb_dim", what));
    }
    let hidden = config.size("filter_order", WIDTH, None)?;
    let taps = config.size("short_filter_order", 1..=1024, Some(3))?;
    let frequency = config.number("activation_freq", Some(1.0))?;
    let rows = vocabulary(config, 8)?;
    let deviation = config.number("initializer_range", Some(0.02))?;
    // Layers that write to the residual stream: as GPT-2, two for each block.
    let residual = deviation / (2.0 * layers as f64).sqrt();

    let embedding = "hyena.backbone.embeddings.word_embeddings.weight";
    plan.add(embedding, &[rows, width], Fill::Normal(deviation));
    for layer in 0..layers {
        let at = format!("hyena.backbone.layers.{layer}");
        layer_norm(plan, format!("{at}.norm1"), width);
        layer_norm(plan, format!("{at}.norm2"), width);
        plan.linear(
            format!("{at}.mlp.fc1"),
            [inner, width],
            Fill::Normal(deviation),
            true,
        );
        plan.linear(
            format!("{at}.mlp.fc2"),
            [width, inner],
            Fill::Normal(residual),
            true,
        );
        let at = format!("{at}.mixer");
        plan.linear(
            format!("{at}.in_proj"),
            [3 * width, width],
            Fill::Normal(deviation),
            true,
        );
        plan.linear(
            format!("{at}.out_proj"),
            [width, width],
            Fill::Normal(residual),
            true,
        );
        plan.torch(format!("{at}.short_filter"), &[3 * width, 1, taps]);
        let at = format!("{at}.filter_fn");
        plan.add(format!("{at}.bias"), &[width], Fill::Normal(1.0));
        plan.add(
            format!("{at}.pos_emb.z"),
            &[1, length, features],
            positions(length, bands),
        );
        plan.add(
            format!("{at}.pos_emb.t"),
            &[1, length, 1],
            ramp(0.0, 1.0, length),
        );
        let (slow, fast) = (0.01f64.ln() / 1.5, 0.01f64.ln() / 0.3);
        plan.add(
            format!("{at}.modulation.deltas"),
            &[1, 1, width],
            ramp(slow, fast, width),
        );
        let at = format!("{at}.implicit_filter");
        plan.torch(format!("{at}.0"), &[hidden, features]);
        plan.add(
            format!("{at}.1.freq"),
            &[1, hidden],
            Fill::constant(frequency),
        );
        plan.torch(format!("{at}.2"), &[hidden, hidden]);
        plan.torch(format!("{at}.4"), &[hidden, hidden]);
        plan.add(
            format!("{at}.6.weight"),
            &[width, hidden],
            Fill::torch(hidden),
        );
    }
    layer_norm(plan, "hyena.backbone.ln_f", width);
    plan.add("lm_head.weight", &[rows, width], Fill::Normal(deviation));
    if let Some(head) = plan.0.last_mut() {
        head.like = Some(embedding.to_string());
    }
    Ok(())
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
