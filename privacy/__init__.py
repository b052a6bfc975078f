"""Mechanisms, samplers and accounting; the ledger's entries, proofs and reports; audit statistics.

Its public modules: `central`, `ddg` and `skellam` make plans; `events` say what was released and `accounting`, `group` and `calibration`
price it; `grid` and `distributed` are what devices use. docs/privacy.md says what each mechanism promises.
"""
