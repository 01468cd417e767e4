"""Inside Krita (kritarunner): a job that takes minutes, for a test that kills this process."""
from krita import Krita


def main(*_arguments):
    from krita_jobs import prepare, run
    Krita.instance().setBatchmode(True)
    document, node = prepare("u8")
    run(document, node, "action=generate prompt=fox model=sketched steps=1000")
