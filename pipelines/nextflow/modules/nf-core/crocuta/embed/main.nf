process CROCUTA_EMBED {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/crocuta:0.1.0--0':
        'quay.io/biocontainers/crocuta:0.1.0--0' }"

    input:
    tuple val(meta), path(fasta), path(index)
    tuple val(meta2), path(model)
    tuple val(meta3), path(intervals)

    output:
    tuple val(meta), path("*.embeddings.parquet"), emit: embeddings
    tuple val(meta), path("*.embed.json"), emit: summary
    tuple val("${task.process}"), val('crocuta'), eval("crocuta --version | sed 's/crocuta //'"), topic: versions, emit: versions_crocuta

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def rows = intervals ? "--intervals ${intervals}" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    def weights = model ? "-m ${model}" : ''
    """
    crocuta embed \\
        ${fasta} \\
        -o '${prefix}.embeddings.parquet' \\
        ${rows} \\
        ${weights} \\
        --summary '${prefix}.embed.json' \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}
    touch '${prefix}.embeddings.parquet'
    touch '${prefix}.embed.json'
    """
}
