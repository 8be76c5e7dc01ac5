process CROCUTA_SCORE {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/crocuta:0.1.0--0':
        'quay.io/biocontainers/crocuta:0.1.0--0' }"

    input:
    tuple val(meta), path(variants)
    tuple val(meta2), path(fasta), path(index)
    tuple val(meta3), path(model)

    output:
    tuple val(meta), path("*.scores.parquet"), emit: scores
    tuple val(meta), path("*.scores.tsv"), emit: tsv
    tuple val(meta), path("*.scores.vcf.gz"), emit: vcf, optional: true
    tuple val(meta), path("*.scores.vcf.gz.{tbi,csi}"), emit: index, optional: true
    tuple val(meta), path("*.score.json"), emit: summary
    tuple val("${task.process}"), val('crocuta'), eval("crocuta --version | sed 's/crocuta //'"), topic: versions, emit: versions_crocuta

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def device = task.accelerator ? 'cuda' : 'cpu'
    def weights = model ? "-m ${model}" : ''
    """
    crocuta score \\
        ${variants} \\
        -r ${fasta} \\
        -o '${prefix}.scores.parquet' \\
        ${weights} \\
        --summary '${prefix}.score.json' \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    crocuta table export '${prefix}.scores.parquet' --tsv -o '${prefix}.scores.tsv'
    """

    stub:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}
    touch '${prefix}.scores.parquet'
    touch '${prefix}.scores.tsv'
    touch '${prefix}.score.json'
    """
}
