#!/usr/bin/env python3
"""Prints the scalars of a folder of event files as TensorBoard reads them: TAG STEP:VALUE ...

Needs the package tensorboard. usage: read_events.py FOLDER [TAG...]
"""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

accumulator = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
accumulator.Reload()
for tag in sorted(accumulator.Tags()["scalars"]):
    if len(sys.argv) == 2 or tag in sys.argv[2:]:
        print(tag, *(f"{e.step}:{e.value:g}" for e in accumulator.Scalars(tag)))
