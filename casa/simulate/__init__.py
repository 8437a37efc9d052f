"""Simulated semen under a simulated microscope: swimmers with known kinematics, rendered as a camera would see them.

``simulate(preset, seed)`` gives a :class:`~casa.simulate.scene.Scene`; everything in it follows from the seed.
Knows `casa.types` and `casa.errors` only.
"""
