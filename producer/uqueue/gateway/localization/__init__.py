"""The localization service of the gateway: IQ samples in, position and ellipse out. Inference runs in workers.

routes.py admin.py        predict and batch under all their paths; what models there are, shares, A/B tests, reload
requests.py features.py   what a request may hold; from IQ samples to features, large ones in threads
service.py                one request or batch on its way: version, cache, worker, answer
selection.py versions.py arms.py     which version answers: the pure choice, the manager, what all gateways share of it
cache.py running.py reload.py        answers kept; a job in the queue; new versions
answers.py refusals.py schemas.py    what goes out: answers, problems, and both in OpenAPI
recorder.py analytics.py             what is counted, and what the web client reads of it
"""
