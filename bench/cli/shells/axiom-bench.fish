# Completion of axiom-bench for fish, written by `axiom-bench --completion fish`.
function __axiom_bench_names
    switch "$argv[1]"
@names@
    end
end
function __axiom_bench_options
    switch "$argv[1]"
@options@
    end
end
function __axiom_bench_word
    commandline -ct | string trim --left --chars "\"'"
end
function __axiom_bench_key
    string split --max 1 = -- (__axiom_bench_word)[1] | head -n 1
end
function __axiom_bench_takes_names
    string match -q -- '*=*' (__axiom_bench_word); and count (__axiom_bench_names (__axiom_bench_key)) > /dev/null
end
function __axiom_bench
    set -l all_commands (string split -- ' ' @commands@)
    set -l settings (string split -- ' ' @settings@)
    set -l with_settings (string split -- ' ' @with_settings@)
    set -l typed (commandline -opc)
    set -l word (__axiom_bench_word)
    set -l previous $typed[-1]
    set -l command run
    if contains -- "$typed[2]" $all_commands
        set command $typed[2]
    end
    if string match -q -- '-*' $word
        __axiom_bench_options $command
        return
    end
    if string match -q -- '*=*' $word
        set -l start (string replace -r '[^=,[]*$' '' -- $word)
        for name in (__axiom_bench_names (__axiom_bench_key))
            echo $start$name
        end
        return
    end
    if string match -q -- '-*' $previous; and count (__axiom_bench_names $previous) > /dev/null
        set -l start (string replace -r '[^,]*$' '' -- $word)
        for name in (__axiom_bench_names $previous)
            echo $start$name
        end
        return
    end
    test (count $typed) -le 1; and string join \n -- $all_commands
    test "$previous" = $command; and __axiom_bench_names $command
    contains -- $command $with_settings; and string join \n -- $settings
end
complete -c axiom-bench -a '(__axiom_bench)'
complete -c axiom-bench -n __axiom_bench_takes_names -f
