-- Whether this role may make, for a moment, the schema with which the tables are compared.
select has_database_privilege(current_database(), 'create') and not current_setting('transaction_read_only')::boolean
