process CROCUTA_TABLECONCAT {
    tag "$meta.id"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/crocuta:0.1.0--0':
        'quay.io/biocontainers/crocuta:0.1.0--0' }"

    input:
    tuple val(meta), path(tables)

    output:
    tuple val(meta), path("${prefix}.parquet"), emit: table
    tuple val("${task.process}"), val('crocuta'), eval("crocuta --version | sed 's/crocuta //'"), topic: versions, emit: versions_crocuta

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    if ([tables].flatten().any { table -> table.name == "${prefix}.parquet" }) {
        error("A table is named as the output, ${prefix}.parquet: set ext.prefix")
    }
    """
    crocuta table concat \\
        ${tables} \\
        -o '${prefix}.parquet' \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}
    touch '${prefix}.parquet'
    """
}
