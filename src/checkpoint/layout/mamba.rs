//! Mamba and Mamba-2 in the layout of transformers, and Caduceus in its own.

use super::{Fill, LAYERS, Plan, WIDTH, vocabulary};
use crate::checkpoint::{CaduceusLayers, Config};
use crate::error::Result;

/// The selective state space layer: sizes and how its step sizes begin.
struct Mixer {
    width: usize,
    inner: usize,
    state: usize,
    taps: usize,
    rank: usize,
    bias: bool,
    conv_bias: bool,
    step: TimeSteps,
    /// The output projection is divided by the root of this.
    residuals: usize,
}

/// Time steps begin log-uniform from min to max.
struct TimeSteps {
    min: f64,
    max: f64,
    floor: f64,
    scale: f64,
}

impl TimeSteps {
    /// The bias whose softplus is the step.
    fn bias(&self) -> Fill {
        Fill::TimeStep {
            min: self.min,
            max: self.max,
            floor: self.floor,
        }
    }
}

impl Mixer {
    /// Adds the tensors below `at`; the projections in and out only if they are not shared.
    fn add(&self, plan: &mut Plan, at: &str, projections: bool) {
        let (inner, state, rank) = (self.inner, self.state, self.rank);
        let log_decay = Fill::Each(Box::new(move |index| ((index % state + 1) as f64).ln()));
        plan.add(format!("{at}.A_log"), &[inner, state], log_decay);
        plan.add(format!("{at}.D"), &[inner], Fill::constant(1.0));
        convolution(plan, at, inner, self.taps, self.conv_bias);
        let x_proj = format!("{at}.x_proj");
        plan.linear(x_proj, [rank + 2 * state, inner], Fill::torch(inner), false);
        let bound = self.step.scale / (rank as f64).sqrt();
        plan.add(
            format!("{at}.dt_proj.weight"),
            &[inner, rank],
            Fill::Uniform(-bound, bound),
        );
        plan.add(format!("{at}.dt_proj.bias"), &[inner], self.step.bias());
        if projections {
            let in_proj = format!("{at}.in_proj");
            plan.linear(
                in_proj,
                [2 * inner, self.width],
                Fill::torch(self.width),
                self.bias,
            );
            let out = Fill::torch(inner * self.residuals);
            plan.linear(
                format!("{at}.out_proj"),
                [self.width, inner],
                out,
                self.bias,
            );
        }
    }
}

fn convolution(plan: &mut Plan, at: &str, channels: usize, taps: usize, bias: bool) {
    plan.add(
        format!("{at}.conv1d.weight"),
        &[channels, 1, taps],
        Fill::torch(taps),
    );
    if bias {
        plan.add(format!("{at}.conv1d.bias"), &[channels], Fill::torch(taps));
    }
}

/// The rank of the step's projection; "auto" is a sixteenth of the width, rounded up.
fn rank(config: &Config, key: &str, width: usize) -> Result<usize> {
    match config.get(key) {
        Some(value) if value == "auto" => Ok(width.div_ceil(16)),
        _ => config.size(key, WIDTH, Some(width.div_ceil(16))),
    }
}

/// A positive number below 1e6.
fn positive(config: &Config, key: &str, default: f64) -> Result<f64> {
    let value = config.number(key, Some(default))?;
    if value > 0.0 && value < 1e6 {
        Ok(value)
    } else {
        Err(config.error(key, format!("{value} is not a positive time step")))
    }
}

/// The steps of a transformers configuration.
fn time_steps(config: &Config) -> Result<TimeSteps> {
    let min = positive(config, "time_step_min", 0.001)?;
    Ok(TimeSteps {
        min,
        max: positive(config, "time_step_max", 0.1)?.max(min),
        floor: positive(config, "time_step_floor", 1e-4)?,
        scale: positive(config, "time_step_scale", 1.0)?,
    })
}

/// What Mamba and Mamba-2 have in common: width, layers, and the divisor of the output.
struct Stack {
    width: usize,
    layers: usize,
    residuals: usize,
}

impl Stack {
    fn new(config: &Config) -> Result<Self> {
        if config.has("d_model") {
            return Err(config
                .error("d_model", "new models are made in the layout of transformers only")
                .todo("use hidden_size and the other keys of the presets mamba-d256-l16 and mamba2-d256-l16"));
        }
        let layers = config.size("num_hidden_layers", LAYERS, None)?;
        let rescale = config.flag("rescale_prenorm_residual", Some(false))?;
        let width = config.size("hidden_size", WIDTH, None)?;
        Ok(Self {
            width,
            layers,
            residuals: if rescale { layers } else { 1 },
        })
    }

    /// Adds everything but the mixers.
    fn add(&self, config: &Config, plan: &mut Plan, tied: bool) -> Result<()> {
        let rows = config.size("vocab_size", WIDTH, None)?;
        let deviation = config.number("initializer_range", Some(0.1))?;
        let embedding = Fill::Normal(deviation);
        plan.add("backbone.embeddings.weight", &[rows, self.width], embedding);
        for layer in 0..self.layers {
            let name = format!("backbone.layers.{layer}.norm.weight");
            plan.add(name, &[self.width], Fill::constant(1.0));
        }
        plan.add("backbone.norm_f.weight", &[self.width], Fill::constant(1.0));
        if !config.flag("tie_word_embeddings", Some(tied))? {
            plan.add(
                "lm_head.weight",
                &[rows, self.width],
                Fill::torch(self.width),
            );
        }
        Ok(())
    }
}

/// Mamba in the layout of transformers' `MambaForCausalLM`.
pub fn mamba(config: &Config, plan: &mut Plan) -> Result<()> {
    let stack = Stack::new(config)?;
    let width = stack.width;
    let expand = config.size("expand", 1..=64, Some(2))?;
    let mixer = Mixer {
        width,
        inner: config.size("intermediate_size", WIDTH, Some(expand * width))?,
        state: config.size("state_size", WIDTH, Some(16))?,
        taps: config.size("conv_kernel", 1..=1024, Some(4))?,
        rank: rank(config, "time_step_rank", width)?,
        bias: config.flag("use_bias", Some(false))?,
        conv_bias: config.flag("use_conv_bias", Some(true))?,
        step: time_steps(config)?,
        residuals: stack.residuals,
    };
    stack.add(config, plan, true)?;
    for layer in 0..stack.layers {
        mixer.add(plan, &format!("backbone.layers.{layer}.mixer"), true);
    }
    Ok(())
}

/// The layer of Mamba-2: sizes and how its step sizes begin.
struct Mixer2 {
    width: usize,
    heads: usize,
    inner: usize,
    /// Of x, B and C side by side.
    columns: usize,
    taps: usize,
    bias: bool,
    conv_bias: bool,
    step: TimeSteps,
    /// The output projection is divided by the root of this.
    residuals: usize,
}

impl Mixer2 {
    /// Adds the tensors below `at`; the projections in and out only if they are not shared.
    fn add(&self, plan: &mut Plan, at: &str, projections: bool) {
        let (heads, inner) = (self.heads, self.inner);
        plan.add(format!("{at}.dt_bias"), &[heads], self.step.bias());
        let log_decay = Fill::Each(Box::new(|head| ((head + 1) as f64).ln()));
        plan.add(format!("{at}.A_log"), &[heads], log_decay);
        plan.add(format!("{at}.D"), &[heads], Fill::constant(1.0));
        convolution(plan, at, self.columns, self.taps, self.conv_bias);
        plan.add(format!("{at}.norm.weight"), &[inner], Fill::constant(1.0));
        if projections {
            let (rows, width) = (inner + self.columns + heads, self.width);
            let fill = Fill::torch(width);
            plan.linear(format!("{at}.in_proj"), [rows, width], fill, self.bias);
            let fill = Fill::torch(inner * self.residuals);
            plan.linear(format!("{at}.out_proj"), [width, inner], fill, self.bias);
        }
    }
}

/// Mamba-2 in the layout of transformers' `Mamba2ForCausalLM`.
pub fn mamba2(config: &Config, plan: &mut Plan) -> Result<()> {
    let stack = Stack::new(config)?;
    let heads = config.size("num_heads", WIDTH, None)?;
    let inner = heads * config.size("head_dim", WIDTH, Some(64))?;
    let groups = config.size("n_groups", WIDTH, Some(8))?;
    let mixer = Mixer2 {
        width: stack.width,
        heads,
        inner,
        columns: inner + 2 * groups * config.size("state_size", WIDTH, Some(128))?,
        taps: config.size("conv_kernel", 1..=1024, Some(4))?,
        bias: config.flag("use_bias", Some(false))?,
        conv_bias: config.flag("use_conv_bias", Some(true))?,
        step: time_steps(config)?,
        residuals: stack.residuals,
    };
    stack.add(config, plan, false)?;
    for layer in 0..stack.layers {
        mixer.add(plan, &format!("backbone.layers.{layer}.mixer"), true);
    }
    Ok(())
}

/// The mixers of a Caduceus.
enum BiMixer {
    Mamba(Mixer),
    Mamba2(Mixer2),
}

impl BiMixer {
    /// Reads `ssm_cfg`.
    fn new(layers: &CaduceusLayers, width: usize, residuals: usize) -> Result<Self> {
        let ssm = &layers.mixer;
        let min = positive(ssm, "dt_min", 0.001)?;
        let step = TimeSteps {
            min,
            max: positive(ssm, "dt_max", 0.1)?.max(min),
            floor: positive(ssm, "dt_init_floor", 1e-4)?,
            scale: positive(ssm, "dt_scale", 1.0)?,
        };
        let inner = ssm.size("expand", 1..=64, Some(2))? * width;
        let taps = ssm.size("d_conv", 1..=1024, Some(4))?;
        let bias = ssm.flag("bias", Some(false))?;
        let conv_bias = ssm.flag("conv_bias", Some(true))?;
        if !layers.mamba2 {
            return Ok(Self::Mamba(Mixer {
                width,
                inner,
                state: ssm.size("d_state", WIDTH, Some(16))?,
                taps,
                rank: rank(ssm, "dt_rank", width)?,
                bias,
                conv_bias,
                step,
                residuals,
            }));
        }
        let groups = ssm.size("ngroups", WIDTH, Some(1))?;
        Ok(Self::Mamba2(Mixer2 {
            width,
            heads: inner / ssm.size("headdim", WIDTH, Some(64))?,
            inner,
            columns: inner + 2 * groups * ssm.size("d_state", WIDTH, Some(128))?,
            taps,
            bias,
            conv_bias,
            step,
            residuals,
        }))
    }

    /// Adds the tensors below `at`; the projections in and out only if they are not shared.
    fn add(&self, plan: &mut Plan, at: &str, projections: bool) {
        match self {
            Self::Mamba(mixer) => mixer.add(plan, at, projections),
            Self::Mamba2(mixer) => mixer.add(plan, at, projections),
        }
    }
}

/// Caduceus: tensors that are tied are not stored; with a stream for each strand (PS) the mixer
/// is a submodule and the complements are stored as integers.
pub fn caduceus(config: &Config, plan: &mut Plan) -> Result<()> {
    let width = config.size("d_model", WIDTH, None)?;
    let layers = config.size("n_layer", LAYERS, None)?;
    let parts = CaduceusLayers::of(config)?;
    let init = config.object("initializer_cfg")?;
    let residuals = init.size("n_residuals_per_layer", 1..=16, Some(1))? * layers;
    let rescale = init.flag("rescale_prenorm_residual", Some(true))?;
    let mixer = BiMixer::new(&parts, width, if rescale { residuals } else { 1 })?;
    let per_strand = config.flag("rcps", Some(false))?;
    let fused = parts.norms.flag("fused_add_norm", Some(true))?;
    let rms = parts.norms.flag("rms_norm", Some(true))?;
    let tied = config.flag("bidirectional_weight_tie", Some(true))?;
    let bidirectional = config.flag("bidirectional", Some(true))?;

    let rows = vocabulary(config, 8)?;
    let deviation = init.number("initializer_range", Some(0.02))?;
    let backbone = "caduceus.backbone";
    let words = format!("{backbone}.embeddings.word_embeddings");
    if per_strand {
        let map = complements(config, rows)?;
        plan.add(
            format!("{words}.embedding.weight"),
            &[rows, width],
            Fill::Normal(deviation),
        );
        plan.integers(format!("{words}.complement_map"), map.clone());
        plan.integers("lm_head.complement_map", map);
    } else {
        plan.add(
            format!("{words}.weight"),
            &[rows, width],
            Fill::Normal(deviation),
        );
    }
    let inside = if per_strand { ".submodule" } else { "" };
    let within = if fused { "" } else { inside };
    let norm = |plan: &mut Plan, name: String| {
        let name = format!("{name}{within}");
        plan.add(format!("{name}.weight"), &[width], Fill::constant(1.0));
        if !rms {
            plan.add(format!("{name}.bias"), &[width], Fill::constant(0.0));
        }
    };
    for layer in 0..layers {
        let at = format!("{backbone}.layers.{layer}");
        norm(plan, format!("{at}.norm"));
        mixer.add(plan, &format!("{at}.mixer{inside}.mamba_fwd"), true);
        if bidirectional {
            mixer.add(plan, &format!("{at}.mixer{inside}.mamba_rev"), !tied);
        }
    }
    norm(plan, format!("{backbone}.norm_f"));
    Ok(())
}

/// The complement of each token, from the object whose keys are token ids as texts.
fn complements(config: &Config, rows: usize) -> Result<Vec<usize>> {
    let map = config.object("complement_map")?;
    (0..rows)
        .map(|token| map.size(&token.to_string(), 0..=rows - 1, None))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::{Config, create, preset};

    #[test]
    fn caduceus_files_have_the_published_sizes_to_the_byte() {
        for (name, bytes) in [
            ("caduceus-ph-1k", 7_746_792),
            ("caduceus-ps-131k", 30_937_760),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join(name);
            create(&Config::new(name, preset(name).unwrap()), 0, &out, 1 << 30).unwrap();
            let file = std::fs::metadata(out.join("model.safetensors")).unwrap();
            assert_eq!(file.len(), bytes, "{name}");
        }
    }
}
