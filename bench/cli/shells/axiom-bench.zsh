#compdef axiom-bench
# Completion of axiom-bench for zsh, written by `axiom-bench --completion zsh`.
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
  local -a names
  local -a all_commands=(${(s: :):-@commands@})
  local -a settings=(${(s: :):-@settings@})
  local -a with_settings=(${(s: :):-@with_settings@})
  local command=run previous="${words[CURRENT-1]}"
  if (( CURRENT > 2 && ${all_commands[(Ie)${words[2]}]} )); then command="${words[2]}"; fi
  if [[ "$PREFIX" == -* ]]; then
    compadd -- ${=$(_axiom_bench_options "$command")}
    return
  fi
  if [[ "$PREFIX" == *=* ]]; then
    names=(${=$(_axiom_bench_names "${${PREFIX%%=*}#[\"\']}")})
    compset -P '*='
    if (( ${#names} )); then
      compset -P '*(\[|,)'
      compadd -- $names
    else
      _files
    fi
    return
  fi
  if [[ "$previous" == -* ]]; then
    names=(${=$(_axiom_bench_names "$previous")})
    if (( ${#names} )); then
      compset -P '*,'
      compadd -- $names
      return
    fi
  fi
  if (( CURRENT == 2 )); then compadd -- $all_commands; fi
  if [[ "$previous" == "$command" ]]; then compadd -- ${=$(_axiom_bench_names "$command")}; fi
  if (( ${with_settings[(Ie)$command]} )); then compadd -S '' -- $settings; fi
  _files
}
if [[ "${funcstack[1]}" == _axiom-bench ]]; then
  _axiom_bench "$@"
else
  compdef _axiom_bench axiom-bench
fi
