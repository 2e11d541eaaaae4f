# movidesk-agi: make demo, make test, make lint, make bench, make install, make uninstall, make deb (see README.md)

PYTHON     ?= python3
# A major version for demo and test; empty: an installed Asterisk of any, else 22.
ASTERISK   ?=
# How many test files run at once: those on a real Asterisk mostly wait, for phones to ring and for callers to lose patience.
JOBS       ?= 4
PREFIX     ?= /opt/movidesk-agi
ASTETCDIR  ?= /etc/asterisk
ASTAGIDIR  ?= $(firstword $(wildcard /var/lib/asterisk/agi-bin /usr/share/asterisk/agi-bin) /var/lib/asterisk/agi-bin)
# Its folder sounds gets the prompts; beside agi-bin in every packaging of Asterisk.
ASTDATADIR ?= $(patsubst %/,%,$(dir $(ASTAGIDIR)))
STATEDIR   ?= /var/lib/movidesk
SYSTEMD    ?= $(if $(wildcard /run/systemd/system),yes,no)
ASTUSER    ?= asterisk
# The manual and the completion of shells: where shells look for them, if this is an installation for the whole machine.
SHAREDIR   ?= $(if $(filter yes,$(SYSTEMD)),/usr/local/share,$(PREFIX)/share)

VERBS      := $(notdir $(wildcard agi/*))
DIALPLAN   := $(wildcard dialplan/*.conf)
VENV       := .venv
STAMP      := $(VENV)/.ready
UV         := $(VENV)/tools/bin/uv

.PHONY: help demo test lint lint-shell bench install check-user stage share unit uninstall deb dist audit lock messages mixin prompts clean
.NOTPARALLEL:
help:
	@echo "make demo        ten calls through a real Asterisk, against a simulator of Movidesk; KEEP=1 keeps its page and the panel open"
	@echo "                 FLEET=2: two Asterisks and a Redis, with one account"
	@echo "make test        make lint, then every test; ASTERISK=16 tests on that version, PYTEST='-k queue' picks some,"
	@echo "                 JOBS=1 one by one"
	@echo "make lint        ruff, mypy and shellcheck"
	@echo "make bench       the measurements"
	@echo "make install     into PREFIX, ASTETCDIR, ASTAGIDIR, ASTDATADIR, STATEDIR, SYSTEMD (yes or no):"
	@echo "                 $(PREFIX), $(ASTETCDIR), $(ASTAGIDIR), $(ASTDATADIR), $(STATEDIR), $(SYSTEMD)"
	@echo "make uninstall   removes it again; configuration and journal stay"
	@echo "make deb         a Debian package with all of it, in dist/"
	@echo "make dist        a wheel and a source archive in dist/, checked as a package index would"
	@echo "make audit       asks for known vulnerabilities in what make install installs"
	@echo "make lock        pins the newest versions, with hashes, in requirements/"
	@echo "make prompts     records sounds/texts.ini with espeak-ng, after a change of it"
	@echo "make mixin       builds the alert rules and the dashboard in etc/movidesk-mixin/ from their jsonnet files"
	@echo "make messages    writes the messages of the code into the catalogs of each language, and compiles them"

$(STAMP): setup.cfg pyproject.toml requirements/build.txt requirements/test.txt
	@echo "Setting up $(VENV) ..."
	@$(call make-venv,$(VENV))
	@$(call pip-install,$(VENV),requirements/test.txt,-e .)
	@touch $@

# Debian keeps ensurepip in a package of its own; as root we fetch it, else we say so.
define make-venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { \
	echo "$(PYTHON) is missing or older than 3.9: name a newer one with make PYTHON=..." >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qqy python3-venv >/dev/null; \
	else echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; fi; }; \
$(PYTHON) -m venv $(1)
endef

# Into environment $(1) what $(2) pins, then our own package, $(3). What builds it comes first and is pinned as well; with
# build isolation pip would fetch the newest instead.
PIP = bin/python3 -m pip --disable-pip-version-check install -q --no-build-isolation
define pip-install
$(1)/$(PIP) --require-hashes -r requirements/build.txt && \
$(1)/$(PIP) --require-hashes -r $(2) && \
$(1)/$(PIP) --no-deps $(3) || { \
	echo "Not installed: pip could not have exactly what requirements/*.txt pins, see above" >&2; exit 1; }
endef

demo: $(STAMP)
	@$(VENV)/bin/python -m movidesk_rehearsal.$(if $(FLEET),fleet_demo --pbxs $(FLEET),demo$(if $(KEEP), --keep)) \
		$(if $(ASTERISK),--asterisk $(ASTERISK))

# Phones and Asterisks of several tests at once may be too much for a machine that has other work. What fails beside other tests
# runs once more, alone, and has to pass then; both runs are shown. Status 1 of pytest: tests failed.
RUN_TESTS = $(VENV)/bin/python -m pytest $(if $(ASTERISK),--asterisk $(ASTERISK)) $(PYTEST)
test: lint
	$(RUN_TESTS) -n $(JOBS) --dist loadfile || { [ $$? = 1 ] && \
		echo "Once more, one by one, what failed beside other tests:" >&2 && \
		$(RUN_TESTS) --last-failed --last-failed-no-failures none --maxfail 5; }

lint: $(STAMP) lint-shell
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

# Files that begin with #!, the command that make install writes, and the recipes, as make would run them.
# SC2050: a condition is constant once make has put in SYSTEMD. SC2015: in a && b || c, c is meant for a failed b too.
SHELLCHECK := $(VENV)/bin/shellcheck
# As $(MAKE) it would run, and come back here, where make was only asked what it would do.
PRINT      := $(MAKE) -nB --no-print-directory
IS_SHELL   := /^\#! *[^ ]*(\/|env +(-S +)?)(ba|da)?sh( |$$)/
lint-shell: $(STAMP)
	@find . .ci \( -path './.*' -o -name build -o -name results \) -prune -o -type f -exec \
		awk 'FNR == 1 && $(value IS_SHELL) { printf "%s%c", FILENAME, 0 }' {} + | xargs -0t $(SHELLCHECK)
	@printf '%s\n' "$$CLI" | $(SHELLCHECK) -
	@recipes=$$($(PRINT) SYSTEMD=yes demo test bench install uninstall deb dist audit lock clean) && \
		printf '%s\n' "$$recipes" | $(SHELLCHECK) -s sh -e SC2050,SC2015 -

bench: $(STAMP)
	@for bench in bench/*.py; do case $$bench in */_*) ;; *) $(VENV)/bin/python "$$bench" || exit 1;; esac; done

# The command. Root becomes the owner of the journal's folder, Asterisk's user: a journal begun by root would be closed to
# Asterisk, and its events lost.
define CLI
#!/bin/sh
PATH="$$PATH:/usr/sbin:/sbin" # for runuser: cron's has neither
export MOVIDESK_CONFIG="$${MOVIDESK_CONFIG:-$(ASTETCDIR)/movidesk.conf}"
export MOVIDESK_USER="$(ASTUSER)" # as whom `check` looks, which root begins
owner=$$(stat -c %U "$(STATEDIR)")
if [ "$$(id -u)" = 0 ] && [ "$$owner" != root ] && [ "$$1" != check ]; then
    exec runuser -u "$$owner" -- "$(PREFIX)/venv/bin/movidesk" "$$@"
fi
exec "$(PREFIX)/venv/bin/movidesk" "$$@"
endef
export CLI

# As root, files are given to Asterisk's user.
check-user:
	@[ "$$(id -u)" != 0 ] || id "$(ASTUSER)" >/dev/null 2>&1 || { \
		echo "There is no user $(ASTUSER): the configuration and $(STATEDIR) will belong to root. If Asterisk does not run" >&2; \
		echo "as root, install again and name its user: make install ASTUSER=..." >&2; }

# Configuration and journal are never overwritten.
install: check-user stage share
	@[ -e "$(ASTETCDIR)/movidesk.conf" ] || { \
		sed 's|^;\? *path = .*|path = $(STATEDIR)/journal.db|' etc/movidesk.conf >"$(ASTETCDIR)/movidesk.conf" && \
		chmod 640 "$(ASTETCDIR)/movidesk.conf"; }
	@mkdir -p "$(STATEDIR)"
	@if [ "$$(id -u)" = 0 ] && id $(ASTUSER) >/dev/null 2>&1; then \
		chown root:$(ASTUSER) "$(ASTETCDIR)/movidesk.conf"; chown $(ASTUSER):$(ASTUSER) "$(STATEDIR)"; chmod 750 "$(STATEDIR)"; fi
	@if [ "$(SYSTEMD)" = yes ]; then \
		$(call unit,/etc/systemd/system/movidesk.service) && \
		install -D -m 644 etc/tmpfiles.conf /etc/tmpfiles.d/movidesk.conf && \
		if [ -d /var/log/movidesk ]; then install -m 644 etc/logrotate /etc/logrotate.d/movidesk; \
		else rm -f /etc/logrotate.d/movidesk; fi && \
		systemctl daemon-reload && systemctl enable movidesk.service && \
		systemctl try-restart movidesk.service; fi # one that runs is of the version before
	@echo "Installed. docs/install.md says how to rehearse first, with a simulator of Movidesk. Next:"
	@echo "  1. put url and token into $(ASTETCDIR)/movidesk.conf"
	@echo "  2. add '#include movidesk/*.conf' at the end of extensions.conf (FreePBX, Issabel: extensions_custom.conf)"
	@echo "  3. $(if $(filter yes,$(SYSTEMD)),systemctl restart movidesk,run $(PREFIX)/bin/movidesk serve as Asterisk's user)"
	@echo "  4. asterisk -rx 'dialplan reload'"
	@echo "  5. $(PREFIX)/bin/movidesk check"

unit = sed 's|@PREFIX@|$(PREFIX)|; s|@ASTETCDIR@|$(ASTETCDIR)|; s|@STATEDIR@|$(STATEDIR)|; s|@ASTUSER@|$(ASTUSER)|' \
	etc/movidesk.service >$(1)
unit:
	@$(call unit,$(UNIT))

# The files that every installation replaces, below DESTDIR (a folder in which a package is built; else empty).
# Everything Python lives in its own virtual environment; the scripts name its interpreter, and skip the site module that
# would cost each of them 4 ms, and the garbage collector, which finds nothing in so short a life.
D = $(DESTDIR)
stage:
	@[ -n "$(D)" ] || [ "$(SYSTEMD)" != yes ] || [ "$$(id -u)" = 0 ] || { echo "SYSTEMD=yes needs root; or SYSTEMD=no" >&2; exit 1; }
	@[ -n "$(D)" ] || [ ! -L "$(ASTAGIDIR)/movidesk" ] && [ ! -L "$(ASTETCDIR)/movidesk/queue.conf" ] || { \
		echo "The Debian package movidesk-agi is installed: first apt-get remove movidesk-agi" >&2; exit 1; }
	@mkdir -p "$(D)$(PREFIX)/bin" "$(D)$(ASTETCDIR)/movidesk" "$(D)$(ASTAGIDIR)/movidesk"
	@[ -x "$(D)$(PREFIX)/venv/bin/python3" ] || { $(call make-venv,"$(D)$(PREFIX)/venv"); }
	@[ -n "$(D)" ] || [ "$$(id -u)" != 0 ] || ! id $(ASTUSER) >/dev/null 2>&1 || runuser -u $(ASTUSER) -- "$(PREFIX)/venv/bin/python3" -c '' || { \
		echo "$(ASTUSER) may not run $(PYTHON): make uninstall, then make install PYTHON=/usr/bin/python3" >&2; exit 1; }
	@rm -rf build # setuptools would install what an earlier version left in it
	@$(call pip-install,"$(D)$(PREFIX)/venv",requirements/install.txt,.)
	@rm -f "$(D)$(PREFIX)/bin/movidesk"; echo "$$CLI" >"$(D)$(PREFIX)/bin/movidesk"; chmod 755 "$(D)$(PREFIX)/bin/movidesk"
	@site=$$("$(D)$(PREFIX)/venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); site=$${site#"$(D)"}; \
	config="os.environ.setdefault('MOVIDESK_CONFIG', '$(ASTETCDIR)/movidesk.conf')"; scripts="$(D)$(ASTAGIDIR)/movidesk"; \
	for verb in $(VERBS); do \
		sed "1c #!$(PREFIX)/venv/bin/python3 -IS\nimport gc, os, sys; gc.disable(); sys.path.append('$$site'); $$config" agi/$$verb >"$$scripts/$$verb.new" && \
		chmod 755 "$$scripts/$$verb.new" && \
		mv "$$scripts/$$verb.new" "$$scripts/$$verb" || exit 1; \
	done
	@install -m 644 $(DIALPLAN) "$(D)$(ASTETCDIR)/movidesk/"; rm -f "$(D)$(ASTETCDIR)/movidesk/removed.conf"
	@sed -i 's|/var/lib/movidesk|$(STATEDIR)|' "$(D)$(ASTETCDIR)/movidesk/verb.conf"
	@"$(D)$(PREFIX)/venv/bin/python3" sounds/prompts.py install "$(D)$(ASTDATADIR)/sounds/movidesk"

# The manual, and what the shells' completion needs, which the command itself writes. MOVIDESK: that command.
MOVIDESK = "$(D)$(PREFIX)/venv/bin/python3" -m movidesk.cli
MAN1     = $(SHAREDIR)/man/man1/movidesk.1
MAN5     = $(SHAREDIR)/man/man5/movidesk.conf.5
BASH     = $(SHAREDIR)/bash-completion/completions/movidesk
ZSH      = $(SHAREDIR)/zsh/site-functions/_movidesk
FISH     = $(SHAREDIR)/fish/vendor_completions.d/movidesk.fish
share:
	@install -D -m 644 etc/movidesk.1 "$(D)$(MAN1)"
	@mkdir -p $(foreach file,$(MAN5) $(BASH) $(ZSH) $(FISH),"$(D)$(dir $(file))")
	@awk -f etc/conf-to-man.awk etc/movidesk.conf >"$(D)$(MAN5)"
	@_MOVIDESK_COMPLETE=bash_source $(MOVIDESK) >"$(D)$(BASH)"
	@_MOVIDESK_COMPLETE=zsh_source $(MOVIDESK) >"$(D)$(ZSH)"
	@_MOVIDESK_COMPLETE=fish_source $(MOVIDESK) >"$(D)$(FISH)"
	@chmod 644 "$(D)$(MAN5)" "$(D)$(BASH)" "$(D)$(ZSH)" "$(D)$(FISH)"

# Configuration and journal stay, and a small dialplan in place of ours: an #include that finds no file would keep Asterisk
# from loading any dialplan at its next start.
uninstall:
	@if [ "$(SYSTEMD)" = yes ]; then systemctl disable -q --now movidesk.service; \
		rm -f /etc/systemd/system/movidesk.service /etc/tmpfiles.d/movidesk.conf /etc/logrotate.d/movidesk; \
		systemctl daemon-reload; fi
	@rm -f $(foreach verb,$(VERBS),"$(ASTAGIDIR)/movidesk/$(verb)") $(foreach file,$(notdir $(DIALPLAN)),"$(ASTETCDIR)/movidesk/$(file)")
	@rm -rf "$(PREFIX)/venv" "$(PREFIX)/bin/movidesk" "$(ASTDATADIR)/sounds/movidesk"
	@rm -f "$(MAN1)" "$(MAN5)" "$(BASH)" "$(ZSH)" "$(FISH)"
	@[ ! -d "$(PREFIX)/share" ] || find "$(PREFIX)/share" -depth -type d -empty -delete
	@for folder in "$(ASTAGIDIR)/movidesk" "$(PREFIX)/bin" "$(PREFIX)"; do \
		[ ! -d "$$folder" ] || rmdir --ignore-fail-on-non-empty "$$folder"; done
	@[ ! -d "$(ASTETCDIR)/movidesk" ] || install -m 644 etc/removed.conf "$(ASTETCDIR)/movidesk/"
	@echo "Removed; $(ASTETCDIR)/movidesk.conf and $(STATEDIR) are kept. Now: asterisk -rx 'dialplan reload'"
	@echo "Calls to movidesk-queue go to MOVIDESK_FALLBACK if it is set, see $(ASTETCDIR)/movidesk/removed.conf"
	@grep -lsz '^$(PREFIX)/venv/bin/movidesk$$' /proc/[0-9]*/cmdline | cut -d/ -f3 | while read -r process; do \
		command=$$(tr '\0' ' ' <"/proc/$$process/cmdline"); \
		case "$$command" in runuser*) ;; *) echo "Still running, of the removed version: $$command: kill $$process" ;; esac; done

# debian/rules calls stage. The package needs no network when it is installed; to build it pip does, so it is not for a build
# machine of Debian's.
deb:
	@command -v dh >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -qqy --no-install-recommends debhelper >/dev/null; \
		else echo "debhelper is missing: apt-get install debhelper" >&2; exit 1; fi; }
	@rm -rf dist/deb; mkdir -p dist/deb
	@debian/rules clean binary >dist/deb/log 2>&1 || { cat dist/deb/log >&2; exit 1; }
	@debian/rules clean >/dev/null
	@echo "Built $$(ls dist/deb/*.deb). Install it with: apt-get install ./$$(ls dist/deb/*.deb)"

dist: $(STAMP) $(UV)
	@rm -rf build dist/*.whl dist/*.tar.gz
	@$(UV) build -q --no-build-isolation --python $(VENV)/bin/python3
	@$(UV) tool run -q twine check --strict dist/*.whl dist/*.tar.gz

# The newest that setup.cfg's ranges allow, for each Python from 3.9 on.
lock: LOCK = $(UV) pip compile -q --upgrade --universal --python-version 3.9 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'
lock: $(UV)
	@$(LOCK) --group build -o requirements/build.txt
	@$(LOCK) setup.cfg --extra cli --extra numbers --extra fleet --extra reports --extra web --extra sim --extra metrics \
		-o requirements/install.txt
	@$(LOCK) setup.cfg --all-extras -c requirements/install.txt -o requirements/test.txt

# Asks about the versions that $(PYTHON) gets; older Pythons get older ones.
audit: $(UV)
	@$(UV) tool run -q --python $(PYTHON) pip-audit --strict --disable-pip --require-hashes \
		-r requirements/build.txt -r requirements/install.txt

$(UV):
	@$(call make-venv,$(VENV)/tools)
	@$(VENV)/tools/bin/python3 -m pip install -q uv

mixin: $(STAMP)
	@$(VENV)/bin/python etc/movidesk-mixin/build.py

# The messages of the code go into each language's catalog, DOMAIN.po, which is compiled to DOMAIN.mo. Both are committed: so a
# checkout, a wheel and a package have the compiled ones, and no machine but a developer's needs Babel. The simulator's page has a
# domain of its own.
messages: $(STAMP)
	@mkdir -p build
	@$(call catalogs,movidesk,lib/movidesk,)
	@$(call catalogs,movidesk_sim,lib/movidesk_sim,-F pyproject.toml)

# Domain $(1), of the code in $(2), found with the options $(3).
define catalogs
$(VENV)/bin/pybabel -q extract $(3) --no-location --sort-output -k ngettext:1,2 -o build/$(1).pot $(2) && \
for language in pt es; do \
	$(VENV)/bin/pybabel -q update -i build/$(1).pot -D $(1) -d $(2)/locale -l $$language --init-missing \
		--no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --no-wrap || exit 1; done && \
$(VENV)/bin/pybabel -q compile -D $(1) -d $(2)/locale
endef

# Needed after a change of sounds/texts.ini only.
prompts:
	@$(PYTHON) sounds/prompts.py record

clean:
	rm -rf $(VENV) build dist bench/results debian/movidesk-agi debian/*.service
