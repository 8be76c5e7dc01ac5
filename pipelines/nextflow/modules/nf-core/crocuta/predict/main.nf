process CROCUTA_PREDICT {
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

    output:
    tuple val(meta), path("*.predictions.parquet"), emit: predictions, optional: true
    tuple val(meta), path("*.gff3"), emit: genes, optional: true
    tuple val(meta), path("*.bed"), emit: bed, optional: true
    tuple val(meta), path("*.bw"), emit: bigwig, optional: true
    tuple val(meta), path("*.predict.json"), emit: summary
    tuple val("${task.process}"), val('crocuta'), eval("crocuta --version | sed 's/crocuta //'"), topic: versions, emit: versions_crocuta

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def table = args =~ /--(genes|bed|bigwig)/ ? '' : "-o '${prefix}.predictions.parquet'"
    def device = task.accelerator ? 'cuda' : 'cpu'
    def weights = model ? "-m ${model}" : ''
    """
    crocuta predict \\
        ${fasta} \\
        ${table} \\
        ${weights} \\
        --summary '${prefix}.predict.json' \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}
    touch '${prefix}.predictions.parquet'
    touch '${prefix}.predict.json'
    """
}
