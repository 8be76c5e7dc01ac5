#!/usr/bin/env bash
# attempt.sh NUMBER FILE COMMAND...: runs COMMAND as attempt NUMBER of a job and keeps its exit code in
# FILE. Snakemake repeats a job whatever its code was; here an attempt after one whose code would come
# again (1 to 4 and 6, docs/exit-codes.md) ends with that code at once, and with the messages of the
# one that gave it, since Snakemake empties logs before each attempt. A job that the system killed leaves
# no code, and is repeated.
set -u
number=$1 file=$2
shift 2
if [ "$number" -gt 1 ] && code=$(grep -sx '[12346]' "$file"); then
    cat "$file.log" >&2
    echo "attempt $number: not run, code $code would come again" >&2
    exit "$code"
fi
mkdir -p "$(dirname "$file")"
rm -f "$file"
exec 3> >(trap '' TERM INT && exec tee "$file.log" >&2)
messages=$!
"$@" 2>&3 3>&- &
child=$!
trap 'kill -TERM "$child"' TERM INT
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not yet the command
    wait "$child"
    code=$?
done
exec 3>&-
wait "$messages"
echo "$code" >"$file"
exit "$code"
