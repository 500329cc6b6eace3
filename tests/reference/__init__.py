"""The papers' equations in float64 NumPy with plain loops, one sentence at a time: what `nmt` is compared with.

Written from the papers alone, without torch, and for reading, not for speed. No function knows padding: a test passes
one unpadded sentence here and the padded batch to `nmt`.

Letters, as in `nmt/model`: E embedding, M source state, H decoder state, A attention or readout, V vocabulary, T target
steps. Here S counts the source tokens *without* EOS, so a sentence has S + 1 rows, written R, and row S is EOS. All
positions and steps are 0-based. Matrices are [outputs, inputs] and multiply a column from the left, as in the papers.
"""
