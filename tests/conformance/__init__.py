"""Every operator of PyTorch's OpInfo database through ``torch.compile``, against eager.

    PYTHONPATH=tests python -m conformance [OP ...] [--mode forward] [--backend ipex] ...

`samples` chooses what is run, `case` runs one sample and judges it with `compare` and `tolerance`,
`pool` keeps two worker processes busy that may crash or hang, `known` reads the list of known
failures, `report` prints and saves. Only Dynamo's cost (about 50 ms) separates a sample from
calling the compiler directly, so there is one way in: the one that users take.
"""
