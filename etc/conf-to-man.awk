# movidesk.conf(5) from etc/movidesk.conf: a comment describes the keys that follow it.

function escaped(line) {
    gsub(/\\/, "\\e", line)
    return line ~ /^[.']/ ? "\\&" line : line
}

function flush() {
    if (keys != "" || description != "") printf "%s%s", keys, description
    keys = description = ""
}

BEGIN {
    print ".TH MOVIDESK.CONF 5 \"\" \"movidesk-agi\" \"movidesk-agi\""
    print ".SH NAME\nmovidesk.conf \\- configuration of movidesk(1)\n.SH DESCRIPTION"
}
/^\[/ {
    flush()
    print ".SH " $0
}
/^; / {
    if (keys != "") flush()
    description = description escaped(substr($0, 3)) "\n"
}
/^;?[a-z_]+ =/ {
    sub(/^;/, "")
    sub(/ =$/, "")
    keys = keys (keys == "" ? ".TP" : ".TQ") "\n.B " escaped($0) "\n"
}
END {
    flush()
    print ".SH SEE ALSO\n.BR movidesk (1)"
}
