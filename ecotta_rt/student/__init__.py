"""A network that fits the device: distilled from teachers over the domains it will see, slimmed, picked by the plan.

    find_domains -> Domains -> batches -> train(Steps, TrainingOptions)

Host only, with torch. The methods are those of papers, each under its own name, and each of them is steps for the one
loop in `training`.
"""
