"""Ways to run SQL at Redshift: ``wire`` speaks PostgreSQL's protocol by asyncpg.

Nothing is imported here, so that the door of ``engine.redshift`` stays free of drivers.
"""
