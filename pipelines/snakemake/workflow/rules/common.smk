from pathlib import Path


def fasta(wildcards):
    return config["genomes"][wildcards.genome]["fasta"]


def index(wildcards):
    """The files that lie beside the FASTA: without them a job reads all of it to find its part."""
    path = fasta(wildcards)
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return [f"{path}.fai"] + ([f"{path}.gzi"] if compressed else [])


def variants(wildcards):
    return config["genomes"][wildcards.genome]["variants"]


def model_files(wildcards):
    """The directory of a model; a bundled one has no files."""
    return config["model"] if Path(config["model"]).is_dir() else []


def memory_mb(wildcards, attempt):
    return config["memory_mb"] * attempt


def attempt_number(wildcards, attempt):
    return attempt


def code_of(command):
    """Where attempt.sh keeps the exit code of an attempt: no output and no log, which would go."""
    return lambda wildcards: (
        f"logs/codes/{wildcards.genome}.{wildcards.scatteritem}.{command}"
    )


def options(wildcards, threads, resources):
    """What `embed` and `score` are given alike. A job stops five minutes before its time is up, a short one
    after four fifths of it."""
    seconds = 60 * resources.runtime
    checkpoints = [
        "--resume",
        f"--checkpoint-dir={config['checkpoints']}",
        f"--checkpoint-every={config['checkpoint_every']}",
        f"--time-limit={max(seconds - 300, seconds * 4 // 5)}s",
    ]
    return [
        f"--model={config['model']}",
        f"--shard={wildcards.scatteritem}",
        f"--shard-by={config['shard_by']}",
        f"--device={'cuda' if config['gpus'] else 'cpu'}",
        f"--threads={threads}",
        "--force",
    ] + (checkpoints if config["checkpoints"] else [])
