"""Writes schedule_values.h: learning-rate factors as transformers computes them.

usage: python make_schedule.py > schedule_values.h     (needs torch and transformers)
"""
import torch
from transformers import get_scheduler

CASES = [("LR_CONSTANT", "constant_with_warmup", 0, 7), ("LR_CONSTANT", "constant_with_warmup", 3, 12),
         ("LR_LINEAR", "linear", 0, 10), ("LR_LINEAR", "linear", 4, 13), ("LR_LINEAR", "linear", 5, 5),
         ("LR_COSINE", "cosine", 0, 9), ("LR_COSINE", "cosine", 3, 16)]

print("/* Written by make_schedule.py from transformers' schedules. */")
print("static const struct schedule_case {")
print("    enum lr_schedule kind;\n    int64_t warmup, total;\n    double factor[17];")
print("} schedule_cases[] = {")
for kind, name, warmup, total in CASES:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    values = []
    for _ in range(total):
        values.append(repr(float(scheduler.get_last_lr()[0])))
        optimizer.step()
        scheduler.step()
    print(f"    {{{kind}, {warmup}, {total}, {{{', '.join(values)}}}}},")
print("};")
