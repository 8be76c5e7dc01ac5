// Embeds genomes and scores variants in shards, and puts the shards together:
//
//   nextflow run pipelines/nextflow --input genomes.csv --shards 8 --checkpoints /shared/checkpoints
//
// genomes.csv has the columns id, fasta, fai, gzi (for BGZF) and variants (or nothing).

include { CROCUTA_EMBED                            } from './modules/nf-core/crocuta/embed/main'
include { CROCUTA_SCORE                            } from './modules/nf-core/crocuta/score/main'
include { CROCUTA_TABLECONCAT as GATHER_EMBEDDINGS } from './modules/nf-core/crocuta/tableconcat/main'
include { CROCUTA_TABLECONCAT as GATHER_SCORES     } from './modules/nf-core/crocuta/tableconcat/main'

workflow CROCUTA {
    take:
    genomes  // channel: [ meta, fasta, [ fai, gzi ] ]
    variants // channel: [ meta, vcf ], with the meta of a genome
    model    // value: [ meta, directory ], or [ [:], [] ] for a bundled model
    number   // integer: shards of a genome

    main:
    shards = channel.of(1..number).map { i -> "${i}-of-${number}" }

    CROCUTA_EMBED(
        genomes
            .combine(shards)
            .map { meta, fasta, index, shard -> [meta + [shard: shard], fasta, index] },
        model,
        [[:], []],
    )
    GATHER_EMBEDDINGS(
        CROCUTA_EMBED.out.embeddings
            .map { meta, table -> [groupKey([id: meta.id], number), table] }
            .groupTuple()
    )

    jobs = variants
        .join(genomes)
        .combine(shards)
        .multiMap { meta, vcf, fasta, index, shard ->
            variants: [meta + [shard: shard], vcf]
            genome: [meta, fasta, index]
        }
    CROCUTA_SCORE(jobs.variants, jobs.genome, model)
    GATHER_SCORES(
        CROCUTA_SCORE.out.scores
            .map { meta, table -> [groupKey([id: meta.id], number), table] }
            .groupTuple()
    )

    emit:
    embeddings = GATHER_EMBEDDINGS.out.table
    scores     = GATHER_SCORES.out.table
    summary    = CROCUTA_EMBED.out.summary.mix(CROCUTA_SCORE.out.summary)
}

workflow {
    main:
    rows = channel.fromPath(params.input, checkIfExists: true).splitCsv(header: true)
    genomes = rows.map { row ->
        [
            [id: row.id],
            file(row.fasta, checkIfExists: true),
            [row.fai, row.gzi].findAll().collect { index -> file(index, checkIfExists: true) },
        ]
    }
    variants = rows
        .filter { row -> row.variants }
        .map { row -> [[id: row.id], file(row.variants, checkIfExists: true)] }
    model = params.model ? [[id: 'model'], file(params.model, checkIfExists: true)] : [[:], []]

    CROCUTA(genomes, variants, model, params.shards)
}
