"""Compare the processor time of a training step between options of SAM 2's image encoder.

    OMP_NUM_THREADS=1 python benchmarks/speed/encoder_options.py

prints the table of docs/how-to/training.md: parameters, those that train, and the least of four steps, forward and
backward, of the recipe ``ablation-3dmed`` without its auxiliary losses, options in turns on the same clip.
"""

import time

import torch

from synthfm_train.distributed import start_processes
from synthfm_train.sam2.objective import TrainingObjective
from synthfm_train.sam2.recipe import load_recipe

PLAIN = ("phases.0.boundary=0", "phases.0.relative_position=0")
FROZEN = "trains=memory+decoder"
OPTIONS = {
    "none": (),
    "none, encoder frozen": (FROZEN,),
    "`lora = 4`, encoder frozen": (FROZEN, "lora=4"),
    "`depth_adapter = 16`": ("depth_adapter=16",),
    "`depth_adapter = 16`, encoder frozen": (FROZEN, "depth_adapter=16"),
    "`neighbours = true`": ("neighbours=true",),
    '`architecture.trunk = "convolutional"`': ("weights=random", "architecture.trunk=convolutional"),
}
REPEATS = 5  # the first warms up


def main() -> None:
    """Print one line for each option."""
    torch.set_num_threads(1)
    objectives = {}
    for name, options in OPTIONS.items():
        recipe = load_recipe("ablation-3dmed", (*PLAIN, *options))
        objectives[name] = TrainingObjective(recipe, start_processes("cpu", 1), workers=0)
        objectives[name].begin(0, 0, objectives[name].model)
    clips = next(objectives["none"]._batches)
    times: dict[str, list[float]] = {name: [] for name in objectives}
    for _ in range(REPEATS):
        for name, objective in objectives.items():
            objective._batches = iter([clips])
            began = time.process_time()
            objective.loss(0, 0).total.backward()
            times[name].append(time.process_time() - began)
    print("| option | parameters | of them train | a step, ms |\n|---|---:|---:|---:|")
    for name, objective in objectives.items():
        parameters = list(objective.model.parameters())
        count, trained = (
            sum(p.numel() for p in some) for some in (parameters, [p for p in parameters if p.requires_grad])
        )
        print(f"| {name} | {count:,} | {trained:,} | {1000 * min(times[name][1:]):.0f} |")


if __name__ == "__main__":
    main()
