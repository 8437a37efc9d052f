"""Many recordings at once: each is analysed as ``casa replay`` would, by processes here or by a Ray cluster.

``inputs`` finds the recordings, ``settings`` says what they are analysed with, ``plan`` what is left to do, ``run``
drives a pool (``local`` or ``ray_cluster``) whose workers do one recording at a time (``work``) and put the results
into a ``store``. ``compare`` compares two runs.
"""
