//! Files of PyTorch.

use super::bytes::torch;
use super::model_file;

/// The small model as a file of PyTorch: a dictionary of its tensors, all float32 in storages of their
/// own, once for each of these prefixes of their names.
pub fn checkpoint(prefixes: &[&str]) -> Vec<u8> {
    let file = model_file("model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let text = |s: &str| [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat();
    let number = |n: usize| [b"J", &(n as u32).to_le_bytes()[..]].concat();
    let numbers = |list: &[usize]| {
        let items: Vec<u8> = list.iter().flat_map(|&n| number(n)).collect();
        [&b"("[..], &items, b"t"].concat()
    };
    let mut pickle = b"\x80\x02}(".to_vec();
    let mut entries = Vec::new();
    let tensors = tensors.tensors();
    let all = prefixes.iter().flat_map(|prefix| {
        let named = tensors.iter();
        named.map(move |(name, view)| (format!("{prefix}{name}"), view))
    });
    for (i, (name, view)) in all.enumerate() {
        let shape = view.shape().to_vec();
        let strides: Vec<usize> = (0..shape.len())
            .map(|k| shape[k + 1..].iter().product())
            .collect();
        let (key, count) = (i.to_string(), shape.iter().product::<usize>());
        for part in [
            text(&name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(&key),
            text("cpu"),
            number(count),
            b"tQ".to_vec(),
            number(0),
            numbers(&shape),
            numbers(&strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ] {
            pickle.extend(part);
        }
        entries.push((format!("archive/data/{key}"), view.data().to_vec()));
    }
    pickle.extend(b"u.");
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, data)| (name.as_str(), &data[..]))
        .collect();
    torch(&pickle, &entries)
}
