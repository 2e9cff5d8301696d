"""Measures.

On drawn scenes: `truth` (frames against the truth), `compare` (ours, `rivals` and ablations by every measure),
`selection` (the right object, words never trained on), `beyond` (past strength 1), written by `report`. On real
pictures: `pie_bench` and `pie_report`. Behind both: `trajectory` (a sweep's figures from any `distance`, of `features`
or of `networks`), `direction` (CLIP-dir, identity), `statistics`, `plots`.
"""
