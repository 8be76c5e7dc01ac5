//! Where a `config.json` of Caduceus says what its layers are made of.

use super::Config;
use crate::error::Result;

/// What the layers of a Caduceus are made of. Its first models have these keys at the top; the code
/// whose mixers may be Mamba-2's (PlantCAD2) has them in `layer_cfg` and `norm_cfg`.
pub struct CaduceusLayers {
    /// The mixers are Mamba-2's, not Mamba's.
    pub mamba2: bool,
    /// The mixers' sizes, `ssm_cfg`.
    pub mixer: Config,
    /// Where `fused_add_norm`, `norm_epsilon` and `rms_norm` are.
    pub norms: Config,
}

impl CaduceusLayers {
    /// Reads and checks the keys of either form.
    pub fn of(config: &Config) -> Result<Self> {
        if !config.has("layer_cfg") {
            let mixer = config.object("ssm_cfg")?;
            return Ok(Self {
                mamba2: second(&mixer, "layer", ["Mamba1", "Mamba2"], "Mamba1")?,
                mixer,
                norms: config.clone(),
            });
        }
        let layer = config.object("layer_cfg")?;
        layer.deny_unknown(&["mamba_cfg", "mode"])?;
        if layer.text("mode", Some("mamba-only"))? != "mamba-only" {
            return Err(layer.error("mode", "only mamba-only, as published, is supported"));
        }
        let mamba = layer.object("mamba_cfg")?;
        mamba.deny_unknown(&["mlp_cfg", "ssm_cfg", "version"])?;
        if mamba.has("mlp_cfg") {
            return Err(mamba.error("mlp_cfg", "feed-forward layers are not supported"));
        }
        let norms = config.object("norm_cfg")?;
        norms.deny_unknown(&["fused_add_norm", "norm_epsilon", "rms_norm"])?;
        Ok(Self {
            mamba2: second(&mamba, "version", ["v1", "v2"], "v2")?,
            mixer: mamba.object("ssm_cfg")?,
            norms,
        })
    }
}

/// Is the value of `key` the second of the two that it may have?
fn second(config: &Config, key: &str, values: [&str; 2], default: &str) -> Result<bool> {
    let value = config.text(key, Some(default))?;
    if !values.contains(&value.as_str()) {
        let error = config.error(key, format!("unknown: {value}"));
        return Err(error.todo(format!("{} are known", values.join(" and "))));
    }
    Ok(value == values[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str) -> Result<CaduceusLayers> {
        CaduceusLayers::of(&Config::parse("config.json", text).unwrap())
    }

    #[test]
    fn both_forms_tell_the_mixer_its_sizes_and_the_norms() {
        for (text, mamba2) in [
            (r#"{"ssm_cfg": {"d_state": 5}, "norm_epsilon": 0.5}"#, false),
            (
                r#"{"ssm_cfg": {"layer": "Mamba2", "d_state": 5}, "norm_epsilon": 0.5}"#,
                true,
            ),
            (
                r#"{"layer_cfg": {"mamba_cfg": {"version": "v1", "ssm_cfg": {"d_state": 5}}},
                    "norm_cfg": {"norm_epsilon": 0.5}}"#,
                false,
            ),
            (
                r#"{"layer_cfg": {"mode": "mamba-only", "mamba_cfg": {"mlp_cfg": null,
                    "ssm_cfg": {"d_state": 5}}}, "norm_cfg": {"norm_epsilon": 0.5}}"#,
                true,
            ),
        ] {
            let found = layers(text).unwrap();
            assert_eq!(found.mamba2, mamba2, "{text}");
            assert_eq!(found.mixer.size("d_state", 0..=9, None).unwrap(), 5);
            assert_eq!(found.norms.number("norm_epsilon", None).unwrap(), 0.5);
        }
    }

    #[test]
    fn what_would_run_as_another_model_is_an_error_that_names_the_key() {
        for (text, key) in [
            (r#"{"ssm_cfg": {"layer": "Mamba3"}}"#, "ssm_cfg.layer"),
            (r#"{"layer_cfg": {"mode": "hybrid"}}"#, "layer_cfg.mode"),
            (
                r#"{"layer_cfg": {"mamba_cfg": {"version": "v3"}}}"#,
                "layer_cfg.mamba_cfg.version",
            ),
            (
                r#"{"layer_cfg": {"mamba_cfg": {"mlp_cfg": {}}}}"#,
                "layer_cfg.mamba_cfg.mlp_cfg",
            ),
            (
                r#"{"layer_cfg": {"mamba_cfg": {"mlp_cgf": {}}}}"#,
                "layer_cfg.mamba_cfg.mlp_cgf",
            ),
        ] {
            let error = layers(text).err().unwrap();
            assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
            let message = error.to_string();
            assert!(message.contains(&format!("key {key}")), "{message}");
        }
    }
}
