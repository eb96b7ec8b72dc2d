"""The 25 rules of HTTP/1.1 that the client keeps, one test or more each, named by number.

``make rules`` runs them and prints the table; ``docs/http-rules.md`` says what each rule is.
"""
