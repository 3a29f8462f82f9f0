# Read by the scripts of this folder before anything else: --help prints the comment at their top and ends.
case "${1:-}" in
  -h | --help)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac
