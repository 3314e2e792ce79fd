"""A page on localhost on which a person plays the cases of simulated clickers, with the same records and boards.

``person_episode`` turns a person's clicks into step records, ``run`` is the folder that they go to, ``game`` is what is
played, ``app`` answers the page, whose sources are in ``web/``.
"""
