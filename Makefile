# movidesk-agi: make demo, make test, make bench, make install, make uninstall (see README.md)

PYTHON     ?= python3
ASTERISK   ?= 22
PREFIX     ?= /opt/movidesk-agi
ASTETCDIR  ?= /etc/asterisk
ASTAGIDIR  ?= $(firstword $(wildcard /var/lib/asterisk/agi-bin /usr/share/asterisk/agi-bin) /var/lib/asterisk/agi-bin)
STATEDIR   ?= /var/lib/movidesk
SYSTEMD    ?= $(if $(wildcard /run/systemd/system),yes,no)
ASTUSER    ?= asterisk

VERBS      := $(notdir $(wildcard agi/*))
DIALPLAN   := $(wildcard dialplan/*.conf)
VENV       := .venv
STAMP      := $(VENV)/.ready

.PHONY: help demo test bench install uninstall clean
help:
	@sed -n 's/^# \(movidesk-agi: .*\)/\1/p' Makefile

$(STAMP): setup.cfg pyproject.toml
	@echo "Setting up $(VENV) ..."
	@$(call make-venv,$(VENV))
	@$(VENV)/bin/python -m pip install -q -e '.[cli,sim,test]'
	@touch $@

# Debian keeps ensurepip in a package of its own; as root we fetch it, else we say so.
define make-venv
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qqy python3-venv >/dev/null; \
	else echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; fi; }; \
$(PYTHON) -m venv $(1)
endef

demo: $(STAMP)
	@$(VENV)/bin/python -m movidesk_sim.demo --asterisk $(ASTERISK)

test: $(STAMP)
	$(VENV)/bin/python -m pytest --asterisk $(ASTERISK) $(PYTEST)

bench: $(STAMP)
	@for bench in bench/*.py; do case $$bench in */_*) ;; *) $(VENV)/bin/python $$bench || exit 1;; esac; done

# Everything Python lives in its own virtual environment; the scripts name its interpreter, and skip the site module that
# would cost each of them 4 ms. Configuration and journal are never overwritten.
install:
	@[ "$(SYSTEMD)" != yes ] || [ "$$(id -u)" = 0 ] || { echo "SYSTEMD=yes needs root; or SYSTEMD=no" >&2; exit 1; }
	@mkdir -p "$(PREFIX)/bin" "$(ASTETCDIR)/movidesk" "$(ASTAGIDIR)/movidesk" "$(STATEDIR)"
	@[ -x "$(PREFIX)/venv/bin/python3" ] || { $(call make-venv,"$(PREFIX)/venv"); }
	@"$(PREFIX)/venv/bin/python3" -m pip install -q '.[cli,sim]'
	@ln -sf ../venv/bin/movidesk "$(PREFIX)/bin/movidesk"
	@site=$$("$(PREFIX)/venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	for verb in $(VERBS); do \
		sed "1c #!$(PREFIX)/venv/bin/python3 -IS\nimport sys; sys.path.append('$$site')" agi/$$verb >"$(ASTAGIDIR)/movidesk/$$verb.new" && \
		chmod 755 "$(ASTAGIDIR)/movidesk/$$verb.new" && \
		mv "$(ASTAGIDIR)/movidesk/$$verb.new" "$(ASTAGIDIR)/movidesk/$$verb" || exit 1; \
	done
	@install -m 644 $(DIALPLAN) "$(ASTETCDIR)/movidesk/"
	@[ -e "$(ASTETCDIR)/movidesk.conf" ] || { \
		sed 's|^;\? *path = .*|path = $(STATEDIR)/journal.db|' etc/movidesk.conf >"$(ASTETCDIR)/movidesk.conf" && \
		chmod 640 "$(ASTETCDIR)/movidesk.conf"; }
	@if [ "$$(id -u)" = 0 ] && id $(ASTUSER) >/dev/null 2>&1; then \
		chown root:$(ASTUSER) "$(ASTETCDIR)/movidesk.conf"; chown $(ASTUSER):$(ASTUSER) "$(STATEDIR)"; chmod 750 "$(STATEDIR)"; fi
	@if [ "$(SYSTEMD)" = yes ]; then \
		sed 's|@PREFIX@|$(PREFIX)|; s|@ASTETCDIR@|$(ASTETCDIR)|; s|@STATEDIR@|$(STATEDIR)|; s|@ASTUSER@|$(ASTUSER)|' \
			etc/movidesk.service >/etc/systemd/system/movidesk.service && \
		install -m 644 etc/logrotate /etc/logrotate.d/movidesk && \
		systemctl daemon-reload && systemctl enable movidesk.service; fi
	@echo "Installed. Next:"
	@echo "  1. put url and token into $(ASTETCDIR)/movidesk.conf"
	@echo "  2. add '#include movidesk/*.conf' at the end of extensions.conf (FreePBX, Issabel: extensions_custom.conf)"
	@echo "  3. $(PREFIX)/bin/movidesk --config $(ASTETCDIR)/movidesk.conf check"
	@[ "$(SYSTEMD)" != yes ] || echo "  4. systemctl start movidesk; asterisk -rx 'dialplan reload'"

# Configuration and journal stay. Where the dialplan goes on to movidesk-queue, point it elsewhere first.
uninstall:
	@if [ "$(SYSTEMD)" = yes ]; then systemctl disable --now movidesk.service; \
		rm -f /etc/systemd/system/movidesk.service /etc/logrotate.d/movidesk; systemctl daemon-reload; fi
	@rm -f $(foreach verb,$(VERBS),"$(ASTAGIDIR)/movidesk/$(verb)") $(foreach file,$(notdir $(DIALPLAN)),"$(ASTETCDIR)/movidesk/$(file)")
	@rmdir --ignore-fail-on-non-empty "$(ASTAGIDIR)/movidesk" "$(ASTETCDIR)/movidesk"
	@rm -rf "$(PREFIX)/venv"; rm -f "$(PREFIX)/bin/movidesk"; rmdir --ignore-fail-on-non-empty "$(PREFIX)/bin" "$(PREFIX)"
	@echo "Removed. $(ASTETCDIR)/movidesk.conf and $(STATEDIR) are kept: delete them by hand if you mean it."

clean:
	rm -rf $(VENV) build bench/results
