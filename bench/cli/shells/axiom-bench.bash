# Completion of axiom-bench for bash, written by `axiom-bench --completion bash`.
_axiom_bench_names() {
  case "$1" in
@names@
  esac
}
_axiom_bench_options() {
  case "$1" in
@options@
  esac
}
_axiom_bench() {
  local all_commands=@commands@
  local settings=@settings@
  local with_settings=@with_settings@
  local line="${COMP_LINE:0:COMP_POINT}"
  local word="${line##*[[:space:]]}"
  local -a typed
  read -ra typed <<< "${line%"$word"}"
  local previous="${typed[${#typed[@]}-1]}"
  local command=run
  case " $all_commands " in *" ${typed[1]} "*) command="${typed[1]:-run}" ;; esac
  # bash splits an unquoted word at these signs, and replaces only its last part.
  local breaks="${COMP_WORDBREAKS//[^=:@]/}" skipped=
  case "$word" in
    [\"\']*) word="${word#?}" ;;
    *) if [ -n "$breaks" ]; then skipped="${word%"${word##*[$breaks]}"}"; fi ;;
  esac
  local start= names= name reply
  COMPREPLY=()
  case "$word" in
    -*) names="$(_axiom_bench_options "$command")" ;;
    *=*)
      names="$(_axiom_bench_names "${word%%=*}")"
      start="${word%"${word##*[=,[]}"}" ;;
    *)
      case "$previous" in -*) names="$(_axiom_bench_names "$previous")" ;; esac
      if [ -n "$names" ]; then
        start="${word%"${word##*,}"}"
      else
        if [ "${#typed[@]}" -le 1 ]; then names="$all_commands"; fi
        if [ "$previous" = "$command" ]; then names="$(_axiom_bench_names "$command")"; fi
        case " $with_settings " in *" $command "*) names="$names $settings" ;; esac
      fi ;;
  esac
  for name in $names; do
    reply="$start$name"
    case "$reply" in "$word"*) COMPREPLY+=("${reply#"$skipped"}") ;; esac
  done
  # no space after a setting, whose value follows
  case "${COMPREPLY[*]}" in *=) compopt -o nospace 2> /dev/null ;; esac
}
complete -o default -F _axiom_bench axiom-bench
