"""The one error that is the user's to mend."""


class RequestError(ValueError):
    """The request was wrong: a bad config, missing or broken data, a bad checkpoint.

    Its message is one self-contained text that names the value, the rule and the remedy: commands
    print it without a traceback and exit with code 2.
    """
