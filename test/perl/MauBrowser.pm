# Opens a page in chromium.
package MauBrowser;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(has_browser browse);

sub has_browser { return system('command -v chromium >/dev/null') == 0 }

# Opens an address. Options: width, height, dark, screenshot => file or pdf => file. Returns the page as it is after its
# script has run, and what it wrote to the console.
sub browse
{
	my ($url, %options) = @_;
	my $home = PostgreSQL::Test::Utils::tempdir();
	local $ENV{HOME} = $home;
	my $result = $options{screenshot} ? "--screenshot=$options{screenshot}" : $options{pdf} ? "--print-to-pdf=$options{pdf}" : '--dump-dom';
	my @command = (qw(chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run
		  --disable-background-networking --virtual-time-budget=8000 --enable-logging=stderr),
		"--user-data-dir=$home/profile", '--window-size=' . ($options{width} // 1280) . ',' . ($options{height} // 2600),
		'--blink-settings=preferredColorScheme=' . ($options{dark} ? 0 : 1), ($options{dark} ? '--force-dark-mode' : ()), $result, $url);
	my ($in, $out, $err) = ('', '', '');
	IPC::Run::run(\@command, '<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	return ($out, join("\n", grep { /CONSOLE/ } split /\n/, $err));
}

1;
