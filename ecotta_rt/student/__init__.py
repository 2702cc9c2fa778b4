"""A network that fits the device: distilled from teachers over the domains it will see, slimmed, picked by the plan.

    find_domains -> Domains -> batches -> train(Steps, TrainingOptions)

Host only, with torch. The methods are those of papers, each under its own name, and each of them is steps for the one
loop in `training`.

| to | see |
| --- | --- |
| open the pictures of a source and of targets | `domains` |
| distil over them: KD-STDA, KD-MTDA, MT-MTDA, and their peers | `progressive.distil`, `methods.DistilOptions` |
| align domains: DANN, MMD, SymNet | `alignment` |
| rank foreign networks, and learn from the nearest or all | `ranking`, `weighted` |
| run a network at any width | `slimmable` |
| adapt all its widths at once (SlimDA), search them for a device, pick one | `slimda` |
"""

__all__: list[str] = []
