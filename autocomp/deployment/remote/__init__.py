"""Trainings of plans in other processes. Read ``plan_trainer`` first. It may import ``deploy`` and ``tuned_files``."""
