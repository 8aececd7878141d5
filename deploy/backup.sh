#!/usr/bin/env bash
# Everything that the compose stack knows, in one folder, and back from it.
#   deploy/backup.sh save FOLDER      of the running stack; nobody is interrupted
#   deploy/backup.sh restore FOLDER   into an empty stack (docker compose down -v is what empties one)
# Databases first, objects after: objects are only ever added, so whatever a database names is there. The second stack (profile mysql)
# is saved when it runs, and restored when it was saved. Not in the folder: .env. Keep it apart, for ZenML's secrets need its key.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
home=/var/lib/openmlops

compose() { docker compose --file "$here/compose.yml" --profile mysql "$@"; }
inside() { compose exec -T "$@"; }
once() { compose run --rm -T --no-deps "$@"; }
fail() { echo "error: $*" >&2; exit 1; }

# State that others can be asked for again (DVC's cache, copies of models) stays out. A file that grows meanwhile is no error.
save_home() { # service
	inside "$1" tar -C $home -cf - --exclude=./state/dvc-cache --exclude=./state/models --exclude=./.cache . || [ $? -eq 1 ]
}

save_sqlite() { # service, file
	inside "$1" python -c "import sqlite3; sqlite3.connect('$home/$2').execute(\"VACUUM INTO '$home/saved.db'\")"
	inside "$1" sh -c "cat $home/saved.db && rm $home/saved.db" >"$2"
}

save() {
	mkdir -p "$1" && cd "$1"
	[ -z "$(ls -A)" ] || fail "$1 is not empty"
	for database in openmlops mlflow; do
		inside postgres pg_dump --username postgres --format custom $database >$database.dump
	done
	save_sqlite zenml-server zenml.db
	save_home app >app.tar
	inside app python /opt/openmlops/objects.py dump >objects.tar
	if [ -n "$(compose ps --quiet mysql)" ]; then
		# shellcheck disable=SC2016 # the container knows the password
		inside mysql sh -c 'MYSQL_PWD=$MYSQL_ROOT_PASSWORD exec mysqldump --user=root --single-transaction --databases openmlops mlflow zenml' >mysql.sql
		save_sqlite mlflow-mysql auth.db
		save_home person >person.tar
		inside person python /opt/openmlops/objects.py dump >objects-person.tar
	fi
	sha256sum -- * >SHA256SUMS
	echo "saved in $(pwd): $(du -sh . | cut -f1)"
}

ask() { # a question to our database in PostgreSQL
	inside postgres psql --username postgres --dbname openmlops --tuples-only --no-align --command "$1"
}

restore() {
	cd "$1" && sha256sum --check --quiet SHA256SUMS || fail "$1 is not as it was saved"
	compose up --detach --wait postgres object-store
	table=$(ask "SELECT to_regclass('ledger')")
	[ -z "$table" ] || [ "$(ask 'SELECT count(*) FROM ledger')" = 0 ] ||
		fail "this stack is in use: its ledger is not empty. Empty it first: docker compose --profile mysql down -v"
	compose stop app serve mlflow zenml-server person serve-person mlflow-mysql zenml-server-mysql
	for database in openmlops mlflow; do
		inside postgres pg_restore --username postgres --role openmlops --no-owner --clean --if-exists --exit-on-error --dbname $database <$database.dump
	done
	once zenml-server sh -c "cat >$home/zenml.db" <zenml.db
	once app tar -C $home -xf - <app.tar
	once bucket
	once app python /opt/openmlops/objects.py load <objects.tar
	if [ -f mysql.sql ]; then
		compose up --detach --wait mysql
		# shellcheck disable=SC2016
		inside mysql sh -c 'MYSQL_PWD=$MYSQL_ROOT_PASSWORD exec mysql --user=root' <mysql.sql
		once mlflow-mysql sh -c "cat >$home/auth.db" <auth.db
		once person tar -C $home -xf - <person.tar
		once bucket-person
		once person python /opt/openmlops/objects.py load <objects-person.tar
		compose up --detach --wait
	else
		docker compose --file "$here/compose.yml" up --detach --wait
	fi
}

case "${1:-} ${2:-}" in
"save "?*) save "$2" ;;
"restore "?*) restore "$2" ;;
*) sed -n 2,7p "$0"; exit 1 ;;
esac
