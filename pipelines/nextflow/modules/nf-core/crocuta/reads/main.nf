process CROCUTA_READS {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/crocuta:0.1.0--0':
        'quay.io/biocontainers/crocuta:0.1.0--0' }"

    input:
    tuple val(meta), path(reads), path(bai)
    tuple val(meta2), path(fasta), path(index)
    tuple val(meta3), path(model)

    output:
    tuple val(meta), path("*.reads.parquet"), emit: reads
    tuple val(meta), path("*.reads.bam"), emit: bam, optional: true
    tuple val(meta), path("*.bases.parquet"), emit: bases, optional: true
    tuple val(meta), path("*.reads.json"), emit: summary
    tuple val("${task.process}"), val('crocuta'), eval("crocuta --version | sed 's/crocuta //'"), topic: versions, emit: versions_crocuta

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def reference = fasta ? "-r ${fasta}" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    def weights = model ? "-m ${model}" : ''
    """
    crocuta reads \\
        ${reads} \\
        -o '${prefix}.reads.parquet' \\
        ${reference} \\
        ${weights} \\
        --summary '${prefix}.reads.json' \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}
    touch '${prefix}.reads.parquet'
    touch '${prefix}.reads.json'
    """
}
